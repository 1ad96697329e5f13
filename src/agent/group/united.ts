/**
 * What the settings of several devices are together, for an instant that they have in common by the order of
 * a receiver: there is no `[[group]]` here that says so.
 *
 * | setting                     | of all                                                              |
 * |-----------------------------|---------------------------------------------------------------------|
 * | hooks                       | each once, in the order of the devices                              |
 * | freeze                      | the same for all; or the mount points of all, if the others have    |
 * |                             | `none`                                                              |
 * | freeze-deadline             | the shortest                                                        |
 * | hook-deadline, quiet        | the longest                                                         |
 * | announce                    | the same program for all that have one, with the longest grace;     |
 * |                             | required if one of them requires it                                 |
 * | limit-rate                  | the lowest of this moment                                           |
 */
import type { FreezeWish } from '../../capture/quiesce/plan.js';
import type { RestOptions } from '../../capture/quiesce/rest.js';
import type { DeviceSettings } from '../../config/agent-config.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { AnnounceWish } from '../../domain/device/announce-wish.js';
import { type RateSchedule, rateAt } from '../../domain/session/rate-limit.js';

/** @throws StillpointError `config`: two of them can't be had at once */
export function unitedRest(name: string, devices: readonly DeviceSettings[]): RestOptions {
  const quiets = devices.flatMap(({ quiet }) => quiet ?? []);
  const longest = (of: (quiet: (typeof quiets)[number]) => number) => Math.max(...quiets.map(of));
  return {
    name,
    hooks: [...new Set(devices.flatMap(({ hooks }) => hooks))],
    freeze: unitedFreeze(name, devices),
    quiet:
      quiets.length === 0
        ? undefined
        : { quietMs: longest(({ quietMs }) => quietMs), deadlineMs: longest(({ deadlineMs }) => deadlineMs) },
    freezeDeadlineMs: extreme(
      Math.min,
      devices.map(({ freezeDeadlineMs }) => freezeDeadlineMs),
    ),
    hookDeadlineMs: extreme(
      Math.max,
      devices.map(({ hookDeadlineMs }) => hookDeadlineMs),
    ),
    announce: unitedAnnounce(name, devices),
  };
}

export function unitedRate(devices: readonly DeviceSettings[], nowMs: number): RateSchedule | null {
  const limits = devices.flatMap(({ limitRate }) => limitRate ?? []);
  const at = (limit: RateSchedule) => rateAt(limit, nowMs) ?? Number.POSITIVE_INFINITY;
  return limits.toSorted((a, b) => at(a) - at(b))[0] ?? null;
}

function extreme(of: (...values: number[]) => number, all: readonly (number | null)[]): number | undefined {
  const known = all.filter((value) => value !== null);
  return known.length === 0 ? undefined : of(...known);
}

function unitedFreeze(name: string, devices: readonly DeviceSettings[]): FreezeWish {
  const wishes = devices.map(({ freeze }) => freeze);
  if (wishes.every((wish) => wish === 'auto')) return 'auto';
  const automatic = devices.find(({ freeze }) => freeze === 'auto');
  const other = devices.find(({ freeze }) => freeze !== 'auto');
  if (automatic !== undefined && other !== undefined) throw notUnited(name, 'freeze', automatic, other);
  const mounts = wishes.flatMap((wish) => (typeof wish === 'string' ? [] : wish));
  return mounts.length === 0 ? 'none' : [...new Set(mounts)];
}

function unitedAnnounce(name: string, devices: readonly DeviceSettings[]): AnnounceWish | undefined {
  const [first, ...others] = devices.filter(({ announce }) => announce !== null);
  if (first?.announce == null) return undefined;
  const { program } = first.announce;
  const different = others.find(({ announce }) => announce?.program !== program);
  if (different !== undefined) throw notUnited(name, 'announce', first, different);
  const wishes = [first, ...others].flatMap(({ announce }) => announce ?? []);
  return {
    program,
    graceMs: Math.max(...wishes.map(({ graceMs }) => graceMs)),
    isRequired: wishes.some(({ isRequired }) => isRequired),
  };
}

function notUnited(
  name: string,
  key: string,
  a: Pick<DeviceSettings, 'name'>,
  b: Pick<DeviceSettings, 'name'>,
): StillpointError {
  return new StillpointError('config', {
    thing: `group ${name}`,
    reason: `${a.name} and ${b.name} have a different "${key}", and an instant of both has only one`,
    remedy: `Write the same "${key}" for all devices of this machine that are in the group.`,
  });
}
