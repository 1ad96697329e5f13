/**
 * What single facts of a device's identity are worth: ids that many devices share, and names that say more
 * than the device. Pure.
 */

/** Ends of by-id names that say which partition, or which unit behind a USB bridge. */
const BY_ID_SUFFIX = /(-\d+:\d+)?(-part\d+)?$/;
const ASCENDING = '0123456789'.repeat(4);
const ASCENDING_HEX = '0123456789ABCDEF'.repeat(4);
/** In place of a serial: what firmware and virtual machines put there for every disk. */
const PLACEHOLDER =
  /^(|none|unknown|default|serial|generic|n\/?a|not ?specified|to be filled.*|dead ?beef)$/i;
/** QEMU names disks after their place when nobody gave them a serial. */
const QEMU_PLACE = /(^|[ _-])(QM\d{5}|drive-[a-z]+(-[a-z]+)?\d+(-\d+)*)$/i;

/**
 * Many devices have it, so that it proves nothing: QEMU's `QM00005` and `drive-scsi0`, zeros, the
 * `0123456789ABCDEF` of USB bridges; also as a part of a WWN or by-id name.
 */
export function isGenericId(id: string): boolean {
  const text = id.replace(BY_ID_SUFFIX, '').trim();
  const nvme = /^nvme\.[0-9a-f]+-([0-9a-f]+)-[0-9a-f]+-[0-9a-f]+$/i.exec(text)?.[1];
  if (nvme !== undefined) return isGenericSerial(Buffer.from(nvme, 'hex').toString('latin1').trim());
  if (QEMU_PLACE.test(text) || text.startsWith('dm-name-') || text.startsWith('md-name-')) return true;
  if (/^dm-uuid-CRYPT-PLAIN-/.test(text)) return true;
  const lastWord = text.slice(Math.max(...[' ', '_', '.'].map((mark) => text.lastIndexOf(mark))) + 1);
  const afterKind = /^(?:ata|scsi|usb|virtio|nvme|mmc|wwn)-(.*)$/.exec(lastWord)?.[1] ?? lastWord;
  return isGenericSerial(afterKind);
}

function isGenericSerial(serial: string): boolean {
  const text = serial.toUpperCase();
  const digits = text.replace(/^0X/, '').replaceAll(/[-: .]/g, '');
  return (
    PLACEHOLDER.test(text) ||
    QEMU_PLACE.test(text) ||
    // All of one character; zeros before a small number.
    /^(0+|(.)\2{3,})$/.test(digits) ||
    (/^0{4,}.{1,2}$/.test(digits) && digits.length >= 6) ||
    (digits.length >= 6 && (ASCENDING.includes(digits) || ASCENDING_HEX.includes(digits)))
  );
}

/**
 * The UUID of a LUKS mapping in the kernel ends with the name that it was opened under:
 * another name, the same device.
 */
export function stableById(byId: string): string {
  return /^(dm-uuid-CRYPT-LUKS\d-[0-9a-f]{32})-/.exec(byId)?.[1] ?? byId;
}
