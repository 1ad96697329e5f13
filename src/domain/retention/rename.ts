/** What is kept of an agent that gets another name. Pure. */
import type { PolicyScope } from './policy.js';
import type { RetentionSettings } from './settings.js';

/**
 * Its policies, and the times of its journals, count for the new name too: its points must be under them
 * whichever name they have.
 */
export function copyForName(settings: RetentionSettings, from: string, to: string): RetentionSettings {
  const { policies, journalKeep = [] } = settings;
  const copied = <T extends PolicyScope>(entries: readonly T[]): readonly T[] => {
    const copies = entries.filter(({ agent }) => agent === from).map((entry) => ({ ...entry, agent: to }));
    return copies.length === 0 ? entries : [...entries.filter(({ agent }) => agent !== to), ...copies];
  };
  const made = { policies: copied(policies), journalKeep: copied(journalKeep) };
  if (made.policies === policies && made.journalKeep === journalKeep) return settings;
  return { ...settings, ...made };
}

/** Nothing is of the former name any more. */
export function leaveName(settings: RetentionSettings, from: string, to: string): RetentionSettings {
  const { journalKeep } = settings;
  const isOfOther = ({ agent }: PolicyScope) => agent !== from;
  return {
    ...settings,
    policies: settings.policies.filter(isOfOther),
    ...(journalKeep === undefined ? {} : { journalKeep: journalKeep.filter(isOfOther) }),
    pins: settings.pins.map((pin) => (pin.agent === from ? { ...pin, agent: to } : pin)),
  };
}
