/** Time zones: what a wall clock shows at an instant, and at which instants it shows a time. Pure. */
import { StillpointError } from '../base/errors.js';

export interface Zone {
  /** As the IANA names it; null: that of this machine. */
  readonly name: string | null;
  /** What the wall clock is ahead of UTC. */
  offsetMs(instantMs: number): number;
}

const DAY_MS = 86_400_000;

const LOCAL: Zone = {
  name: null,
  offsetMs: (instantMs) => -new Date(instantMs).getTimezoneOffset() * 60_000,
};
export const UTC: Zone = { name: 'UTC', offsetMs: () => 0 };

const known = new Map<string, Zone>();

/** @throws StillpointError `usage` for a name that the runtime does not know */
export function zoneNamed(name: string | null): Zone {
  if (name === null) return LOCAL;
  if (name === 'UTC') return UTC;
  const zone = known.get(name) ?? makeZone(name);
  known.set(name, zone);
  return zone;
}

function makeZone(name: string): Zone {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      ...{ timeZone: name, hourCycle: 'h23', calendar: 'gregory', numberingSystem: 'latn' },
      ...{ year: 'numeric', month: 'numeric', day: 'numeric' },
      ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
    });
  } catch (cause) {
    throw new StillpointError('usage', {
      thing: `time zone ${JSON.stringify(name.slice(0, 80))}`,
      reason: 'it is not known',
      remedy: 'Write it as in the IANA database, for example Europe/Berlin or UTC.',
      cause,
    });
  }
  const offsetMs = (instantMs: number): number => {
    const second = Math.floor(instantMs / 1000) * 1000;
    const parts: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(second)) parts[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0 } = parts;
    return Date.UTC(year, month - 1, day, hour, minute, parts.second ?? 0) - second;
  };
  return { name, offsetMs };
}

/** The time on the wall as if it were of UTC: what Date's UTC methods give the fields of. */
export function wallTime(zone: Zone, instantMs: number): number {
  return instantMs + zone.offsetMs(instantMs);
}

/**
 * The instants at which the wall clock shows a time, in order: mostly one; two where the clock was set back
 * over it. A time that the clock skips has one, too: as much later as the clock jumps.
 */
export function instantsOf(zone: Zone, wallMs: number): readonly number[] {
  const before = zone.offsetMs(wallMs - DAY_MS);
  const after = zone.offsetMs(wallMs + DAY_MS);
  if (before === after) return [wallMs - before];
  const shown = [wallMs - before, wallMs - after].filter((instantMs) => wallTime(zone, instantMs) === wallMs);
  return shown.length === 0 ? [wallMs - before] : shown.sort((a, b) => a - b);
}
