/**
 * Image formats other than raw. A raw read of such a file shows the container, not the disk inside. Pure: a
 * file's beginning and end tell the format.
 */

/** What is looked at of the beginning, and of the end. */
export const FORMAT_HEAD_BYTES = 512;
export const FORMAT_TAIL_BYTES = 512;

interface Magic {
  readonly format: string;
  readonly at: 'head' | 'tail';
  readonly byteOffset: number;
  readonly bytes: Buffer;
}

const magic = (format: string, text: string, byteOffset = 0, at: Magic['at'] = 'head'): Magic => ({
  ...{ format, at, byteOffset },
  bytes: Buffer.from(text, 'latin1'),
});

/**
 * The first one that fits. A VHD of fixed size is a raw disk with a footer: from its beginning
 * nothing tells it from one.
 */
export const IMAGE_MAGICS: readonly Magic[] = [
  magic('qcow', 'QFI\xfb\x00\x00\x00\x01'),
  magic('qcow2', 'QFI\xfb'),
  magic('qed', 'QED\x00'),
  magic('VMDK', 'KDMV'),
  magic('VMDK', 'COWD'),
  magic('VMDK (a descriptor of other files)', '# Disk DescriptorFile'),
  magic('VHDX', 'vhdxfile'),
  magic('VDI', '\x7f\x10\xda\xbe', 64),
  magic('Parallels', 'WithoutFreeSpace'),
  magic('Parallels', 'WithouFreSpacExt'),
  magic('Bochs', 'Bochs Virtual HD Image\x00'),
  magic('VHD', 'conectix'),
  magic('VHD', 'conectix', 0, 'tail'),
  // Before 2003 the footer had 511 bytes.
  magic('VHD', 'conectix', 1, 'tail'),
  magic('DMG', 'koly', 0, 'tail'),
];

/**
 * @param head the first `FORMAT_HEAD_BYTES` of the file, or all of it.
 * @param tail its last `FORMAT_TAIL_BYTES`, or empty where they say nothing: of a device, which may be larger
 * than the image on it.
 * @returns null: it may be a raw disk.
 */
export function detectImageFormat(head: Uint8Array, tail: Uint8Array): string | null {
  const found = IMAGE_MAGICS.find(({ at, byteOffset, bytes }) => {
    const part = at === 'head' ? head : tail;
    return bytes.equals(part.subarray(byteOffset, byteOffset + bytes.length));
  });
  return found?.format ?? null;
}
