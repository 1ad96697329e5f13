/**
 * All that is set about retention in a store: policies, how long journals are kept, the minimum age, pins,
 * and the time zone of its calendar. Each change gives new settings; src/store/retention keeps them.
 */
import { StillpointError } from '../base/errors.js';
import { zoneCalendar } from './calendar.js';
import { type LockWish, wishForLock } from './lock.js';
import {
  checkPolicy,
  nearestTo,
  POLICIES_MAX,
  type PolicyScope,
  type RetentionPolicy,
  type ScopedPolicy,
  scopeName,
} from './policy.js';

export interface Pin {
  readonly pointId: string;
  readonly agent: string;
  readonly device: string;
  readonly sequence: number;
  readonly reason: string;
  /** By the receiver's clock, as `untilMs`. */
  readonly pinnedAtMs: number;
  /** Null: until it is taken away. */
  readonly untilMs: number | null;
}

export interface JournalKeep extends PolicyScope {
  /** Any second of this time can be restored. */
  readonly keepMs: number;
}

export interface RetentionSettings {
  /** IANA name; null: none was chosen yet, so that no policy needs one. */
  readonly timeZone: string | null;
  readonly policies: readonly ScopedPolicy[];
  /** By scope, as policies; JOURNAL_KEEP_MS_DEFAULT where nothing is set. Missing: nothing is. */
  readonly journalKeep?: readonly JournalKeep[] | undefined;
  readonly lock: readonly LockWish[];
  readonly pins: readonly Pin[];
  /** The configuration file that policies and minimum age come from; null: commands set them. */
  readonly managedBy: string | null;
}

/** What a configuration file says about retention. What it does not say is as if nothing had been set. */
export interface ManagedRetention {
  readonly policies: readonly ScopedPolicy[];
  readonly journalKeep?: readonly JournalKeep[] | undefined;
  readonly timeZone?: string | undefined;
  readonly minAgeMs?: number | undefined;
}

export const PINS_MAX = 10_000;
export const PIN_REASON_CHARS_MAX = 500;
export const MIN_AGE_MS_MAX = 10 * 365 * 86_400_000;
export const JOURNAL_KEEP_MS_DEFAULT = 86_400_000;
export const JOURNAL_KEEP_MS_MAX = MIN_AGE_MS_MAX;

export const NO_SETTINGS: RetentionSettings = {
  ...{ timeZone: null, policies: [], lock: [], pins: [], managedBy: null },
};

/** @param policy null: the scope has none any more. */
export function setPolicy(
  settings: RetentionSettings,
  scope: PolicyScope,
  policy: RetentionPolicy | null,
): RetentionSettings {
  const { agent, device } = scope;
  const others = settings.policies.filter(isOfOther(scope));
  if (policy === null) return { ...settings, policies: others };
  if (others.length >= POLICIES_MAX) throw tooMany('policies', POLICIES_MAX);
  checkPolicy(`policy of ${scopeName(scope)}`, policy);
  return { ...settings, policies: [...others, { agent, device, policy }].sort(byScope) };
}

/** @param keepMs null: the scope has no time of its own any more. */
export function setJournalKeep(
  settings: RetentionSettings,
  { agent, device }: PolicyScope,
  keepMs: number | null,
): RetentionSettings {
  const before = settings.journalKeep ?? [];
  const others = before.filter(isOfOther({ agent, device }));
  if (keepMs === null)
    return others.length === before.length ? settings : { ...settings, journalKeep: others };
  if (others.length >= POLICIES_MAX) throw tooMany('times for which journals are kept', POLICIES_MAX);
  if (!(keepMs > 0 && keepMs <= JOURNAL_KEEP_MS_MAX)) {
    throw new StillpointError('config', {
      thing: `journals of ${scopeName({ agent, device })}`,
      reason: 'the time for which they are kept is not a period from an hour to ten years',
      remedy: 'Write for example 24h or 3d.',
    });
  }
  return { ...settings, journalKeep: [...others, { agent, device, keepMs }].sort(byScope) };
}

/** Of a device. */
export function journalKeepMs(
  { journalKeep = [] }: RetentionSettings,
  key: { readonly agent: string; readonly device: string },
): number {
  return nearestTo(journalKeep, key)?.keepMs ?? JOURNAL_KEEP_MS_DEFAULT;
}

export function setTimeZone(settings: RetentionSettings, timeZone: string): RetentionSettings {
  zoneCalendar(timeZone);
  return { ...settings, timeZone };
}

/** @param nowMs by a clock that is believed */
export function setMinAge(settings: RetentionSettings, minAgeMs: number, nowMs: number): RetentionSettings {
  if (!(minAgeMs >= 0 && minAgeMs <= MIN_AGE_MS_MAX)) {
    throw new StillpointError('config', {
      thing: 'minimum age',
      reason: 'it is not a period from nothing to ten years',
      remedy: 'Write for example 14d or 8w.',
    });
  }
  return { ...settings, lock: wishForLock(settings.lock, minAgeMs, nowMs) };
}

/**
 * Policies, times of journals, zone and minimum age as a configuration file says: those that commands had
 * set are gone. Pins stay.
 * @param managedBy the file
 */
export function applyManaged(
  settings: RetentionSettings,
  managed: ManagedRetention,
  managedBy: string,
  nowMs: number,
): RetentionSettings {
  const { journalKeep: _, ...rest } = settings;
  const bare = { ...rest, policies: [], managedBy };
  const withPolicies = managed.policies.reduce<RetentionSettings>(
    (made, { policy, ...scope }) => setPolicy(made, scope, policy),
    bare,
  );
  const withKeep = (managed.journalKeep ?? []).reduce<RetentionSettings>(
    (made, { keepMs, ...scope }) => setJournalKeep(made, scope, keepMs),
    withPolicies,
  );
  const withZone = managed.timeZone === undefined ? withKeep : setTimeZone(withKeep, managed.timeZone);
  return setMinAge(withZone, managed.minAgeMs ?? 0, nowMs);
}

/** Of a point that is pinned already: the reason and the end are replaced. */
export function addPin(settings: RetentionSettings, pin: Pin): RetentionSettings {
  const reason = pin.reason.trim();
  const refuse = (why: string) =>
    new StillpointError('usage', {
      thing: `pin of ${pin.device}@${pin.sequence}`,
      reason: why,
      remedy: 'See "stillpoint pin --help".',
    });
  if (reason === '') throw refuse('it has no reason');
  if (reason.length > PIN_REASON_CHARS_MAX)
    throw refuse(`its reason has more than ${PIN_REASON_CHARS_MAX} characters`);
  if (pin.untilMs !== null && pin.untilMs <= pin.pinnedAtMs) throw refuse('its end is in the past');
  const others = settings.pins.filter(({ pointId }) => pointId !== pin.pointId);
  if (others.length >= PINS_MAX) throw tooMany('pins', PINS_MAX);
  return { ...settings, pins: [...others, { ...pin, reason }] };
}

export function removePin(settings: RetentionSettings, pointId: string): RetentionSettings {
  return { ...settings, pins: settings.pins.filter((pin) => pin.pointId !== pointId) };
}

/** The pin that keeps the point at this time. */
export function pinOf(settings: RetentionSettings, pointId: string, nowMs: number): Pin | null {
  return settings.pins.find((pin) => pin.pointId === pointId && isInForce(pin, nowMs)) ?? null;
}

export function isInForce({ untilMs }: Pin, nowMs: number): boolean {
  return untilMs === null || untilMs > nowMs;
}

function isOfOther(scope: PolicyScope): (entry: PolicyScope) => boolean {
  return ({ agent, device }) => agent !== scope.agent || device !== scope.device;
}

function byScope(a: PolicyScope, b: PolicyScope): number {
  const name = ({ agent, device }: PolicyScope) => `${agent ?? ''}/${device ?? ''}`;
  return name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0;
}

function tooMany(what: string, max: number): StillpointError {
  return new StillpointError('config', {
    thing: what,
    reason: `there are ${max} of them, which is the limit`,
  });
}
