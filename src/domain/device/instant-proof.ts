/**
 * Was the content read from a source one instant? Pure: facts from before the first read and from after the
 * last one, and what they prove. If they prove nothing, the source is read a second time
 * (src/agent/tree/second-reading.ts).
 *
 * |        | stood                               | changed                  | unproven                    |
 * |--------|-------------------------------------|--------------------------|-----------------------------|
 * | image  | same file, size, mtime and ctime on | any of them differs;     | another file system; nobody |
 * |        | a file system that moves these with | somebody has it open for | can tell whether it is open |
 * |        | each write                          | writing                  |                             |
 * | block  | same attachment and size; its own   | any of them differs      | no counter; others can      |
 * | device | counter of writes stands, and so    |                          | write past it; something    |
 * |        | does what was written past it to    |                          | was written below it, past  |
 * |        | each device or file that it lies on |                          | it                          |
 *
 * Reasons are clauses that follow "it".
 */
export type Verdict =
  | { readonly is: 'stood' }
  /** `isGone`: no part of it that was not read yet can be read any more. */
  | { readonly is: 'changed'; readonly reason: string; readonly isGone: boolean }
  | { readonly is: 'unproven'; readonly reason: string };

export interface ImageFacts extends SourcePresence {
  /** Of the last modification and the last change of status, in ns. */
  readonly times: string;
  /** Null: the kernel can't tell. */
  readonly isOpenForWriting: boolean | null;
  /** Why its times prove nothing; null: they move with each write. */
  readonly doubt: string | null;
}

export interface BlockFacts extends SourcePresence {
  /** Sectors written and discarded; null: the kernel does not count. */
  readonly written: number | null;
  /** Why counters of this kernel prove nothing; null: all that is written to it passes them. */
  readonly doubt: string | null;
  /** Devices and files that it lies on, and what was written to each past those that lie on it. */
  readonly below: readonly BelowFacts[];
}

export interface BelowFacts {
  /** `/dev/sda`, or a path. */
  readonly name: string;
  /** Stays equal only while nobody writes to it past what lies on it; null: that can't be told. */
  readonly past: string | null;
}

/** Of either kind: what tells that it is another one, or shorter. */
export interface SourcePresence {
  /** Another text for another file or another attachment of a device under the name. */
  readonly key: string;
  readonly sizeBytes: number;
}

const changed = (reason: string, isGone = false): Extract<Verdict, { is: 'changed' }> => ({
  is: 'changed',
  reason,
  isGone,
});
const unproven = (reason: string): Verdict => ({ is: 'unproven', reason });
const WRITTEN = 'was written to while it was read';

/** @param after null: nothing has its name now. @returns null: it is there, in the size that it had. */
export function judgePresence(
  kind: 'image' | 'block',
  before: SourcePresence,
  after: SourcePresence | null,
): Extract<Verdict, { is: 'changed' }> | null {
  if (after === null)
    return changed(
      kind === 'image' ? 'was removed while it was read' : 'is gone: the kernel no longer has such a device',
      true,
    );
  if (after.key !== before.key)
    return changed(
      kind === 'image'
        ? 'was replaced while it was read: another file now has its name'
        : 'is gone: another device now has its name',
      true,
    );
  if (after.sizeBytes === before.sizeBytes) return null;
  if (after.sizeBytes === 0 && kind === 'block')
    return changed(`is gone: its size went from ${before.sizeBytes} bytes to 0`, true);
  const isShorter = after.sizeBytes < before.sizeBytes;
  return changed(
    `${isShorter ? 'shrank' : 'grew'} from ${before.sizeBytes} to ${after.sizeBytes} bytes while it was read`,
    isShorter,
  );
}

export function judgeImage(before: ImageFacts, after: ImageFacts | null): Verdict {
  const elsewhere = judgePresence('image', before, after);
  if (elsewhere !== null || after === null) return elsewhere ?? unproven('nothing is known of it');
  if (after.times !== before.times) return changed(WRITTEN);
  if (after.isOpenForWriting === true) return changed('was opened for writing while it was read');
  const doubt = whyUnprovenImage(before) ?? whyUnprovenImage(after);
  return doubt === null ? { is: 'stood' } : unproven(doubt);
}

/** @returns null: its times and the kernel's count of writers can prove that it stands. */
export function whyUnprovenImage({ doubt, isOpenForWriting }: ImageFacts): string | null {
  if (doubt !== null) return doubt;
  return isOpenForWriting === null
    ? "the kernel does not tell whether somebody has it open for writing, so its times can't be trusted"
    : null;
}

export function judgeBlock(before: BlockFacts, after: BlockFacts | null): Verdict {
  const elsewhere = judgePresence('block', before, after);
  if (elsewhere !== null || after === null) return elsewhere ?? unproven('nothing is known of it');
  if (before.written !== null && after.written !== null && before.written !== after.written)
    return changed(WRITTEN);
  const doubt = whyUnprovenBlock(before) ?? whyUnprovenBlock(after);
  if (doubt !== null) return unproven(doubt);
  const names = ({ below }: BlockFacts) => below.map(({ name }) => name).join(' ');
  if (names(before) !== names(after)) return unproven('it lies on other devices than before');
  const index = before.below.findIndex(({ past }, at) => past !== after.below[at]?.past);
  return index < 0
    ? { is: 'stood' }
    : unproven(`something was written past it to ${before.below[index]?.name}, which it lies on`);
}

/** @returns null: counters can prove that it stands. */
export function whyUnprovenBlock({ doubt, written, below }: BlockFacts): string | null {
  if (doubt !== null) return doubt;
  if (written === null) return 'the kernel counts no writes to it';
  const unknown = below.find(({ past }) => past === null);
  return unknown === undefined
    ? null
    : `nothing shows what is written past it to ${unknown.name}, which it lies on`;
}

/**
 * What was written to a device past those that lie on it: its own sectors less theirs. The counters can't be
 * read at one moment; only where its own are the same before and after theirs, nobody was writing meanwhile.
 * @returns null: somebody was, or a counter is missing.
 */
export function writtenPast(
  ownBefore: number | null,
  above: readonly (number | null)[],
  ownAfter: number | null,
): number | null {
  if (ownBefore === null || ownBefore !== ownAfter) return null;
  return above.reduce<number | null>(
    (rest, sectors) => (rest === null || sectors === null ? null : rest - sectors),
    ownBefore,
  );
}
