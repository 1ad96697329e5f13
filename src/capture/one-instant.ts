/**
 * What has to be true so that the cuts of several members are one instant (the reasons are in ports.ts). Of a
 * single member any cut is one, unless its instant is common to several hosts: others are on those.
 *
 * | barrier  | its cut is of the common instant if                                                       |
 * |----------|-------------------------------------------------------------------------------------------|
 * | `gate`   | it was closed from before the instant to its cut: the member refuses to cut otherwise      |
 * | `freeze` | all that is mounted from it was frozen the whole time                                      |
 * | `unused` | nobody wrote: the member has found no write, and the kernel counted none if it was         |
 * |          | prepared long before                                                                       |
 * | `cut`    | it is the only one of its kind, and cut before all others: the instant is its moment.      |
 * |          | Never over several hosts: those do not wait for its moment                                 |
 */
import { stat } from 'node:fs/promises';
import { deviceNumber } from '../devices/system/in-use.js';
import { StillpointError } from '../domain/base/errors.js';
import type { Cut, Member } from './ports.js';
import { counterWatch } from './quiesce/quiet.js';
import type { Rested } from './quiesce/rest.js';

/** @returns the member whose own moment is the instant of all; null: there is none */
export function ownMoment(members: readonly Member[]): Member | null {
  return members.length === 1 ? null : (members.find(({ barrier }) => barrier === 'cut') ?? null);
}

/**
 * Two such members have two moments. A freeze around both would make them one, but the kernel does not let a
 * volume be suspended whose file system is frozen already: Linux 6.1 refuses, and Linux 6.12 never thaws it
 * completely (providers/lvm/filesystems.ts).
 *
 * @param isLed there are members on other hosts, which are cut without waiting for a moment here
 * @throws StillpointError `usage`
 */
export function checkCanBeOne(members: readonly Member[], isLed: boolean): void {
  const [first, ...others] = members.filter(({ barrier }) => barrier === 'cut');
  if (first !== undefined && isLed)
    throw new StillpointError('usage', {
      thing: first.path,
      reason:
        'its snapshot is taken at a moment of its own, and the other hosts of the group do not wait for that',
      remedy: 'Use another provider for it: "live", or "tap".',
    });
  if (first === undefined || others.length === 0) return;
  throw new StillpointError('usage', {
    thing: [first, ...others].map(({ path }) => path).join(', '),
    reason: 'the snapshot of each is taken at a moment of its own, so only one of them can be in a group',
    remedy: 'Use another provider for all but one: "live", or "tap".',
  });
}

/** Of those that nobody used when they were prepared, which may be hours ago: what is written from now on. */
export async function watchUnused(
  members: readonly Member[],
  isCommon: boolean,
): Promise<() => Promise<void>> {
  const late = members.filter(({ barrier, passes }) => barrier === 'unused' && passes !== undefined);
  if (!isCommon || late.length === 0) return async () => undefined;
  const watched = await Promise.all(
    late.map(async ({ path }) => {
      const watch = counterWatch(path, deviceNumber((await stat(path, { bigint: true })).rdev));
      return { path, watch, before: await watch.sample() };
    }),
  );
  return async () => {
    for (const { path, watch, before } of watched)
      if (watch.wrote(before, await watch.sample())) throw wasOpen(path);
  };
}

/** Of a common instant. @throws StillpointError `device-changed` */
export function checkIsOne(
  members: readonly Member[],
  cuts: readonly Cut[],
  { isFilesystem, warnings }: Pick<Rested, 'isFilesystem' | 'warnings'>,
): void {
  const open = members.find(({ barrier }, index) => {
    // It was written to before its cut, by somebody who came later.
    if (barrier === 'unused') return cuts[index]?.kind === 'crash';
    return barrier === 'freeze' && !isFilesystem[index];
  });
  if (open !== undefined) throw wasOpen(open.path, open.barrier === 'freeze' ? warnings[0] : undefined);
}

/** @param why what a freeze has lost, a sentence */
function wasOpen(path: string, why?: string): StillpointError {
  const known = why === undefined ? '' : `: ${why.replace(/\.$/, '')}`;
  return new StillpointError('device-changed', {
    thing: path,
    reason: `nothing kept writes out of it while the instant of several devices was taken${known}`,
    remedy: 'Have all that is mounted from it frozen, for longer (--freeze-deadline), or put a tap on it.',
    permanent: false,
  });
}

/** The others can't be kept closed for as long as it needs. */
export function tookTooLong(path: string, limitMs: number): StillpointError {
  return new StillpointError('device-io', {
    thing: path,
    reason: `its snapshot was not taken within ${Math.round(limitMs)} ms, and nothing else may wait for it longer`,
    remedy: 'Give the freeze longer (--freeze-deadline), or use another provider: "live", or "tap".',
    permanent: false,
  });
}
