/** What a partition's ends say of its content: whether it is swap, and nothing but swap. Pure. */
import { KiB } from '../base/limits.js';

/**
 * `hibernated`: swap with the memory of a machine that sleeps. `other`: something that is known, and not
 * swap. `both`: signatures of swap and of something else, such as swap on a RAID whose members end with a
 * superblock.
 */
export type PartitionContent = 'swap' | 'hibernated' | 'other' | 'both' | 'unknown';

/** What is to be read of each end of a partition to know its content. */
export const END_BYTES = 128 * KiB;

/** Where the signatures of swap end, for each size of pages. */
const PAGE_BYTES: readonly number[] = [4 * KiB, 8 * KiB, 16 * KiB, 32 * KiB, 64 * KiB];
const SWAP_SIGNATURES: readonly string[] = ['SWAPSPACE2', 'SWAP-SPACE'];
/** The kernel's, of uswsusp, and of TuxOnIce. */
const HIBERNATED: readonly string[] = [
  ...['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'],
  '\xed\xc3\x02\xe9\x98V\xe5\x0c',
];
/** Of MD, in the byte order of the machine that made it. */
const MD_MAGICS: readonly string[] = ['\xfc\x4e\x2b\xa9', '\xa9\x2b\x4e\xfc'];

type Signature = readonly [byteOffset: number, bytes: string];

const AT_HEAD: readonly Signature[] = [
  [0, 'LUKS\xba\xbe'],
  [0, 'XFSB'],
  [0, 'hsqs'],
  [3, 'NTFS    '],
  [3, 'EXFAT   '],
  [3, '-FVE-FS-'],
  [54, 'FAT'],
  [82, 'FAT32'],
  ...[0, 512, 1024, 1536].map((at) => [at, 'LABELONE'] as const),
  [1080, '\x53\xef'],
  [1024, '\x10\x20\xf5\xf2'],
  [1024, '\xe2\xe1\xf5\xe0'],
  [1030, '\x34\x34'],
  ...MD_MAGICS.flatMap((magic) => [[0, magic] as const, [4096, magic] as const]),
  // bcache and bcachefs
  [4096 + 24, '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81'],
  [4096 + 24, '\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef'],
  [32_768, 'JFS1'],
  [32_769, 'CD001'],
  [65_588, 'ReIsEr'],
  [65_600, '_BHRfS_M'],
];

/** Counted from the end: RAID of firmware. */
const AT_END: readonly Signature[] = [
  [1024, 'Intel Raid ISM Cfg Sig. '],
  [512, '\xde\x11\xde\x11'],
];

/** @param head @param tail the first and the last 128 KiB, or what there is of them */
export function contentOf(head: Buffer, tail: Buffer, byteLength: number): PartitionContent {
  const swap = swapOf(head);
  if (swap === 'hibernated') return swap;
  const ends = [
    ...AT_END.map(([fromEnd, bytes]): Signature => [byteLength - fromEnd, bytes]),
    ...MD_MAGICS.flatMap((magic) => mdOffsets(byteLength).map((at): Signature => [at, magic])),
  ];
  const isOther =
    AT_HEAD.some(([at, bytes]) => has(head, at, bytes)) ||
    ends.some(([at, bytes]) => has(tail, at - (byteLength - tail.length), bytes));
  if (isOther) return swap === null ? 'other' : 'both';
  return swap ?? 'unknown';
}

function swapOf(head: Buffer): 'swap' | 'hibernated' | null {
  const signatures = PAGE_BYTES.filter((pageBytes) => pageBytes <= head.length).map((pageBytes) =>
    head.toString('latin1', pageBytes - 10, pageBytes),
  );
  if (signatures.some((found) => HIBERNATED.some((text) => found.startsWith(text)))) return 'hibernated';
  return signatures.some((found) => SWAP_SIGNATURES.includes(found)) ? 'swap' : null;
}

/** Where MD's formats 0.90 and 1.0 have their superblock: near the end, aligned. */
function mdOffsets(byteLength: number): number[] {
  const down = (value: number, unit: number) => value - (value % unit);
  return [down(byteLength, 64 * KiB) - 64 * KiB, down(byteLength - 8 * KiB, 4 * KiB)];
}

function has(bytes: Buffer, at: number, text: string): boolean {
  return at >= 0 && bytes.toString('latin1', at, at + text.length) === text;
}
