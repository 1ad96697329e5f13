/** The name that was probably meant. Pure. */

/** Null if none is near: one change for every three characters at most. */
export function suggestion(name: string, names: readonly string[]): string | null {
  const plain = (text: string) => text.toLowerCase().replaceAll('_', '-');
  const wanted = plain(name.slice(0, 64));
  const mostChanges = Math.max(1, Math.floor(wanted.length / 3));
  let best: string | null = null;
  let fewest = mostChanges + 1;
  for (const other of names) {
    const changes = distance(wanted, plain(other));
    if (changes < fewest) [best, fewest] = [other, changes];
  }
  return best;
}

/** Characters inserted, removed, replaced, or swapped with their neighbour. */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  const at = (i: number, j: number): number => rows[i]?.[j] ?? Number.POSITIVE_INFINITY;
  for (let j = 0; j <= b.length; j += 1) (rows[0] ?? [])[j] = j;
  for (let i = 1; i <= a.length; i += 1) {
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : replaced;
      (rows[i] ?? [])[j] = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replaced, swapped);
    }
  }
  return at(a.length, b.length);
}
