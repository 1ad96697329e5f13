/**
 * A machine with one logical volume, thick or thin, that behaves as LVM and device mapper do, in files: what
 * they print and refuse is as seen in a virtual machine (test/vm/lvm.sh has the real ones).
 */
import { copyFile, open, rm, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  CommandError,
  type LvmHost,
  type LvmProgram,
  type Mapping,
} from '../../../src/capture/providers/lvm/host.js';
import { encodeStore } from '../bytes/exception-store.js';

export const FAKE_CHUNK = 4096;
const POOL_BLOCK = 65_536;
const EXTENT = 65_536;
const GROUP = 'g'.repeat(32);
const ORIGIN = 'o'.repeat(32);

interface Snapshot {
  tags: string[];
  readonly uuid: string;
  readonly path: string;
  storeBytes: number;
  readonly exceptions: number[];
  isInvalid: boolean;
  readonly thinId: number;
  readonly mapped: readonly number[];
}

export interface FakeLvmOptions {
  readonly directory: string;
  readonly sizeBytes: number;
  readonly isThin?: boolean;
  readonly tags?: readonly string[];
}

export class FakeLvm implements LvmHost {
  readonly lockDirectory: string;
  readonly udevRules = null;
  readonly writesBeside = null;
  readonly path: string;
  /** Commands that changed something. */
  readonly log: string[] = [];
  readonly snapshots = new Map<string, Snapshot>();
  tags: string[];
  sizeBytes: number;
  freeBytes = 64 * 1024 * 1024;
  /** Of the pool, in its blocks. */
  poolBlocks = 1000;
  usedBlocks = 100;
  isHeld = false;
  isSuspended = false;
  /** Not installed. */
  missing = new Set<LvmProgram>();
  /** Done before a command: may throw. */
  before: Partial<Record<LvmProgram, (args: readonly string[]) => Promise<void> | void>> = {};
  readonly #isThin: boolean;
  readonly #directory: string;
  #mapped: number[];
  #nextId = 1;

  private constructor({ directory, sizeBytes, isThin = false, tags = [] }: FakeLvmOptions) {
    this.#directory = directory;
    this.lockDirectory = join(directory, 'locks');
    this.path = join(directory, 'vg-data');
    this.sizeBytes = sizeBytes;
    this.#isThin = isThin;
    this.tags = [...tags];
    this.#mapped = Array.from({ length: Math.ceil(sizeBytes / POOL_BLOCK) }, () => this.#nextId++);
  }

  static async make(options: FakeLvmOptions): Promise<FakeLvm> {
    const fake = new FakeLvm(options);
    await writeFile(fake.path, Buffer.alloc(options.sizeBytes, 's'));
    return fake;
  }

  get names(): string[] {
    return [...this.snapshots.keys()];
  }

  async write(byteOffset: number, bytes: Uint8Array): Promise<void> {
    const first = Math.floor(byteOffset / FAKE_CHUNK);
    const last = Math.floor((byteOffset + bytes.length - 1) / FAKE_CHUNK);
    for (let chunk = first; chunk <= last; chunk += 1) {
      this.#mapped[Math.floor((chunk * FAKE_CHUNK) / POOL_BLOCK)] = this.#nextId++;
      if (!this.#isThin) for (const one of this.snapshots.values()) await this.#except(one, chunk);
    }
    const file = await open(this.path, 'r+');
    await file.write(bytes, 0, bytes.length, byteOffset);
    await file.close();
  }

  async mapping(path: string): Promise<Mapping | null> {
    if (path !== this.path) return null;
    return { name: 'vg-data', uuid: `LVM-${GROUP}${ORIGIN}`, isSuspended: this.isSuspended };
  }

  async run(program: LvmProgram, args: readonly string[]): Promise<string> {
    if (this.missing.has(program)) throw new CommandError(program, `${program} is not installed`, true);
    await this.before[program]?.(args);
    const isTrial = args.includes('--test');
    if (!isTrial && program !== 'lvs' && args[0] !== 'status') this.log.push(`${program} ${args.join(' ')}`);
    switch (program) {
      case 'lvs':
        return JSON.stringify({ report: [{ lv: this.#rows() }] });
      case 'lvcreate':
        return isTrial ? '' : this.#create(args);
      case 'lvremove':
        return this.#remove(args.at(-1) ?? '');
      case 'lvchange':
        return this.#change(args);
      case 'lvextend': {
        const bytes = Number.parseInt(args[2] ?? '', 10);
        this.#find(args.at(-1) ?? '').storeBytes += bytes;
        this.freeBytes -= bytes;
        return '';
      }
      case 'dmsetup':
        return args[0] === 'message' ? this.#message(args.at(-1) ?? '') : this.#status(args[1] ?? '');
      case 'thin_delta':
        return this.#delta(Number(args[2]), Number(args[4]));
      default:
        return '';
    }
  }

  async #except(snapshot: Snapshot, chunk: number): Promise<void> {
    if (snapshot.isInvalid || snapshot.exceptions.includes(chunk)) return;
    if (this.#usedBytes(snapshot) + FAKE_CHUNK > snapshot.storeBytes) {
      snapshot.isInvalid = true;
      await truncate(snapshot.path, 0);
    } else snapshot.exceptions.push(chunk);
    await this.#writeStore(snapshot);
  }

  /** Header, an area, originals. */
  #usedBytes({ exceptions }: Snapshot): number {
    return (2 + exceptions.length) * FAKE_CHUNK;
  }

  #writeStore({ path, exceptions, isInvalid, storeBytes }: Snapshot): Promise<void> {
    const bytes = encodeStore(exceptions, { chunkBytes: FAKE_CHUNK, storeBytes, isValid: !isInvalid });
    return writeFile(`${path}-cow`, bytes);
  }

  #find(path: string): Snapshot {
    const found = this.snapshots.get(basename(path));
    if (found === undefined)
      throw new CommandError('lvm', `lvm says: Failed to find logical volume "${path}"`);
    return found;
  }

  async #create(args: readonly string[]): Promise<string> {
    const after = (option: string): string[] =>
      args.flatMap((arg, index) => (args[index - 1] === option ? [arg] : []));
    const [name = ''] = after('-n');
    const storeBytes = Number.parseInt(after('-L')[0] ?? '0', 10);
    if (this.snapshots.has(name))
      throw new CommandError('lvcreate', 'lvcreate says: it already exists in volume group "vg"');
    if (storeBytes > this.freeBytes)
      throw new CommandError('lvcreate', 'lvcreate says: insufficient free space');
    this.freeBytes -= storeBytes;
    const snapshot: Snapshot = {
      tags: after('--addtag'),
      uuid: `s${this.#nextId++}`,
      path: join(this.#directory, `vg-${name}`),
      storeBytes,
      exceptions: [],
      isInvalid: false,
      thinId: this.#nextId++,
      mapped: [...this.#mapped],
    };
    this.isSuspended = true;
    await copyFile(this.path, snapshot.path);
    this.isSuspended = false;
    if (!this.#isThin) await this.#writeStore(snapshot);
    this.snapshots.set(name, snapshot);
    return '';
  }

  async #remove(path: string): Promise<string> {
    const { path: file, storeBytes } = this.#find(path);
    this.snapshots.delete(basename(path));
    this.freeBytes += storeBytes;
    for (const one of [file, `${file}-cow`]) await rm(one, { force: true });
    return '';
  }

  #change(args: readonly string[]): string {
    const snapshot = this.#find(args.at(-1) ?? '');
    for (const [index, arg] of args.entries()) {
      const value = args[index + 1] ?? '';
      if (arg === '--addtag') snapshot.tags = [...snapshot.tags, value];
      if (arg === '--deltag') snapshot.tags = snapshot.tags.filter((tag) => tag !== value);
    }
    return '';
  }

  #status(name: string): string {
    if (name === 'vg-pool-tpool')
      return `0 1 thin-pool 4 43/4096 ${this.usedBlocks}/${this.poolBlocks} ${this.isHeld ? '203' : '-'} rw discard_passdown`;
    const snapshot = this.#find(name.slice('vg-'.length));
    if (this.#isThin) return '0 1024 thin 1024 1023';
    if (snapshot.isInvalid) return '0 1024 snapshot Invalid';
    return `0 1024 snapshot ${this.#usedBytes(snapshot) / 512}/${snapshot.storeBytes / 512} 16`;
  }

  #message(text: string): string {
    const wants = text === 'reserve_metadata_snap';
    if (this.isHeld === wants) throw new CommandError('dmsetup', 'dmsetup says: message ioctl failed');
    this.isHeld = wants;
    return '';
  }

  /** In the form of the package thin-provisioning-tools 0.9. */
  #delta(left: number, right: number): string {
    if (!this.isHeld) throw new CommandError('thin_delta', 'thin_delta says: no metadata snapshot');
    const of = (id: number): Snapshot | undefined =>
      [...this.snapshots.values()].find(({ thinId }) => thinId === id);
    const [before, after] = [of(left), of(right)];
    if (before === undefined || after === undefined)
      throw new CommandError('thin_delta', 'thin_delta says: no such device');
    const lines = before.mapped.map((one, index) => {
      const is = one === after.mapped[index] ? 'same' : 'different';
      return `    <${is} begin="${index}" length="1"/>`;
    });
    const head = `<superblock uuid="" time="3" transaction="5" data_block_size="${POOL_BLOCK / 512}" nr_data_blocks="0">`;
    return [
      head,
      `  <diff left="${left}" right="${right}">`,
      ...lines,
      '  </diff>',
      '</superblock>',
      '',
    ].join('\n');
  }

  #rows(): Record<string, string>[] {
    const thin = this.#isThin ? 'thin,sparse' : 'linear';
    const origin = {
      ...this.#row(
        'data',
        ORIGIN.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7'),
      ),
      lv_size: String(this.sizeBytes),
      lv_tags: this.tags.join(','),
      lv_layout: thin,
      thin_id: this.#isThin ? '0' : '',
      pool_lv: this.#isThin ? 'pool' : '',
      data_percent: this.#isThin ? '100.00' : '',
      lv_dm_path: this.path,
    };
    const pool = {
      ...this.#row('pool', 'p'),
      lv_size: String(this.poolBlocks * POOL_BLOCK),
      lv_layout: 'thin,pool',
      lv_role: 'private',
      metadata_lv: '[pool_tmeta]',
    };
    const snapshots = [...this.snapshots].map(
      ([name, { tags, uuid, path, storeBytes, isInvalid, thinId }]) => ({
        ...this.#row(name, uuid),
        lv_size: String(this.#isThin ? this.sizeBytes : storeBytes),
        lv_tags: tags.join(','),
        lv_layout: thin,
        lv_role: this.#isThin ? 'public,snapshot,thinsnapshot' : 'public,snapshot,thicksnapshot',
        origin_uuid: origin.lv_uuid,
        thin_id: this.#isThin ? String(thinId) : '',
        pool_lv: origin.pool_lv,
        lv_dm_path: path,
        lv_snapshot_invalid: isInvalid ? 'snapshot invalid' : '',
      }),
    );
    const hidden = { ...this.#row('[pool_tmeta]', 'm'), lv_role: 'private,thin,pool,metadata' };
    return [origin, ...snapshots, ...(this.#isThin ? [pool, hidden] : [])];
  }

  #row(name: string, uuid: string) {
    return {
      ...{ lv_uuid: uuid, lv_name: name, vg_name: 'vg', lv_size: '0', origin_uuid: '', pool_lv: '' },
      ...{ lv_tags: '', lv_layout: 'linear', lv_role: 'public', lv_active: 'active', lv_merging: '' },
      ...{
        thin_id: '',
        data_percent: '',
        metadata_percent: '',
        metadata_lv: '',
        lv_snapshot_invalid: 'unknown',
      },
      vg_free: String(this.freeBytes),
      vg_extent_size: String(EXTENT),
      lv_dm_path: join(this.#directory, `vg-${name.replace(/[[\]]/g, '')}`),
    };
  }
}
