/** What an instant has cost those who write. */
import type { ProviderFacts } from '../domain/point/point.js';

/**
 * For how long those who write were held up, where they were: into the point. In milliseconds, to a tenth.
 * `stallMs` is the longest: no write has waited longer for the instant.
 */
export function standstillOf(
  lengths: Readonly<Record<'frozenMs' | 'closedMs', number | null>>,
): ProviderFacts {
  const known = Object.entries(lengths).flatMap(([name, ms]) =>
    ms === null ? [] : ([[name, Math.round(ms * 10) / 10]] as const),
  );
  const stallMs = stallOf(Object.fromEntries(known));
  return stallMs === null ? {} : { ...Object.fromEntries(known), stallMs };
}

/** The longest; null: nobody was held up. */
export function stallOf(lengths: Readonly<Record<string, number | null>>): number | null {
  const known = Object.values(lengths).filter((ms) => ms !== null);
  return known.length === 0 ? null : Math.max(...known);
}
