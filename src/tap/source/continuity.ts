/**
 * May the map be believed after a time in which the tap did not run? A pure decision; the facts come from
 * continuity-facts.ts. In that time nobody marked writes, so the device itself must show that there were
 * none:
 *
 * | map            | device | machine has ... | believed if                                                 |
 * |----------------|--------|-----------------|-------------------------------------------------------------|
 * | closed cleanly | image  | (either)        | inode, size, mtime and ctime are those of the close, on a   |
 * |                |        |                 | file system whose times show each write                     |
 * | closed cleanly | block  | run on          | attached as it was (diskseq), write counters are those of   |
 * |                |        |                 | the close, also of what was written below it past it        |
 * | closed cleanly | block  | restarted       | closed as the machine went down, and as below               |
 * | open (killed)  | both   | run on          | it is the same inode or attachment: nobody else writes to a |
 * |                |        |                 | tapped device; an image is no older one, of a file system   |
 * |                |        |                 | that was rolled back                                        |
 * | open (power    | image  | restarted       | it is the same file; mtime and ctime are before the start,  |
 * | cut)           |        |                 | and show each write                                         |
 * | open (power    | block  | restarted       | counters show no write since the start; hardware identifies |
 * | cut)           |        |                 | it; it is not stacked on others, below which nothing is     |
 * |                |        |                 | counted                                                     |
 *
 * Writes while another system ran, from a rescue disk or on another machine, can't be seen. docs/tap.md says
 * so.
 */

export type DeviceFacts =
  | {
      readonly kind: 'image';
      readonly bootId: string;
      /** When the machine started, in ns since 1970. */
      readonly bootTimeNs: bigint;
      readonly inode: bigint;
      /**
       * When the file was made, in ns since 1970: an inode number goes to another file when the
       * first is gone. 0: unknown.
       */
      readonly bornNs: bigint;
      readonly sizeBytes: bigint;
      readonly mtimeNs: bigint;
      readonly ctimeNs: bigint;
      /** Its name, where times prove nothing (src/devices/facts/honest-times.ts). */
      readonly doubtfulFileSystem: string | null;
    }
  | {
      readonly kind: 'block';
      readonly bootId: string;
      /** Another number for each time that a disk is attached; null: the kernel has none. */
      readonly diskSequence: string | null;
      /**
       * Since it was attached: into it, and, for a partition, around it into the disk. Null:
       * the kernel does not count.
       */
      readonly sectorsWritten: { readonly own: number; readonly throughDisk: number } | null;
      /** Stays equal only while nobody writes to what it lies on past it; null: that can't be told. */
      readonly below: string | null;
      /** Something tells it from other devices also after a restart. */
      readonly isIdentified: boolean;
      /** It consists of other devices or of a file: what is written to those it does not count. */
      readonly isStacked: boolean;
    };

export interface StartRecord {
  readonly bootId: string;
  /** See `placeOf`. */
  readonly place: string;
  /**
   * When the image had last changed, in ns since 1970. Undefined: no image, or the
   * record of an earlier release.
   */
  readonly changedNs?: string;
}

/** What is known of the map file: nothing there, unreadable (a clause), or its header. */
export type MapFacts = null | string | { readonly clean: boolean; readonly continuity: string };

/**
 * The mark that a clean stop leaves in the map. Empty: the device gives nothing to recognize it by.
 * @param machineStops the machine is going down: nobody comes after the tap.
 */
export function continuityMark(device: DeviceFacts, machineStops: boolean): string {
  if (device.kind === 'image') {
    if (device.doubtfulFileSystem !== null) return '';
    return `image ${placeOf(device)} ${device.sizeBytes} ${device.mtimeNs} ${device.ctimeNs}`;
  }
  const { bootId, sectorsWritten, below } = device;
  if (sectorsWritten === null || below === null) return '';
  const counters = `${sectorsWritten.own} ${sectorsWritten.throughDisk} ${below}`;
  return `block ${bootId} ${machineStops ? 'last' : '-'} ${placeOf(device)} ${counters}`;
}

/** The file, or the attachment of the device: for as long as the machine runs on. */
export function placeOf(device: DeviceFacts): string {
  return device.kind === 'image' ? `${device.inode}/${device.bornNs}` : (device.diskSequence ?? '-');
}

/** @returns a clause: why the map is not to be believed; undefined if it is, or if there is none. */
export function whyDistrusted(
  map: MapFacts,
  started: StartRecord | null,
  device: DeviceFacts,
): string | undefined {
  if (map === null) return undefined;
  if (typeof map === 'string') return map;
  return map.clean ? afterClose(map.continuity, device) : afterKill(started, device);
}

function afterClose(mark: string, device: DeviceFacts): string | undefined {
  if (device.kind === 'image' && device.doubtfulFileSystem !== null)
    return timeless(device.doubtfulFileSystem);
  if (mark === '') return 'the tap could not leave a mark of the device when it was stopped';
  if (device.kind === 'image') {
    return mark === continuityMark(device, false)
      ? undefined
      : 'the file was changed or replaced while the tap did not run';
  }
  const [, bootId, last] = mark.split(' ');
  if (bootId !== device.bootId) {
    return last === 'last'
      ? sinceBoot(device)
      : 'the machine ran without the tap before it was restarted, and what was written then is not known';
  }
  return mark === continuityMark(device, last === 'last')
    ? undefined
    : 'the device was written to or attached again while the tap did not run';
}

const timeless = (fileSystem: string): string =>
  `the file lies on ${fileSystem}, whose times do not show what was written while the tap did not run`;

const unborn =
  'the tap did not stop cleanly, and the file system does not say when the file was made: it may be another one';

function afterKill(started: StartRecord | null, device: DeviceFacts): string | undefined {
  if (started === null) return 'the tap did not stop cleanly, and it is not known when it was started';
  if (device.kind === 'image' && device.bornNs === 0n) return unborn;
  if (
    device.kind === 'image' &&
    started.changedNs !== undefined &&
    device.ctimeNs < BigInt(started.changedNs)
  )
    return 'the tap did not stop cleanly, and an older copy of the file is in its place';
  if (started.bootId === device.bootId) {
    return started.place === placeOf(device)
      ? undefined
      : 'the tap did not stop cleanly, and another file or device is in its place';
  }
  if (device.kind === 'image' && started.place !== placeOf(device)) {
    return 'the tap did not stop cleanly, and another file is in its place';
  }
  return sinceBoot(device);
}

function sinceBoot(device: DeviceFacts): string | undefined {
  if (device.kind === 'image') {
    if (device.doubtfulFileSystem !== null) return timeless(device.doubtfulFileSystem);
    return device.mtimeNs < device.bootTimeNs && device.ctimeNs < device.bootTimeNs
      ? undefined
      : 'the file was changed after this machine was started, before the tap was';
  }
  if (!device.isIdentified) return 'the machine was restarted, and nothing tells the device from others';
  if (device.isStacked) {
    return 'the machine was restarted, and what was written to the devices below is not counted';
  }
  if (device.sectorsWritten === null) {
    return 'the machine was restarted, and the kernel counts no writes to the device';
  }
  const { own, throughDisk } = device.sectorsWritten;
  return own === 0 && throughDisk === 0
    ? undefined
    : 'the device was written to after this machine was started, before the tap was';
}
