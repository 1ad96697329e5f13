/** What is kept of an agent that gets another name. Pure. */
import type { RetentionSettings } from './settings.js';

/** Its policies count for the new name too: its points must be under them whichever name they have. */
export function copyForName(settings: RetentionSettings, from: string, to: string): RetentionSettings {
  const others = settings.policies.filter(({ agent }) => agent !== to);
  const copies = settings.policies
    .filter(({ agent }) => agent === from)
    .map((entry) => ({ ...entry, agent: to }));
  return copies.length === 0 ? settings : { ...settings, policies: [...others, ...copies] };
}

/** Nothing is of the former name any more. */
export function leaveName(settings: RetentionSettings, from: string, to: string): RetentionSettings {
  return {
    ...settings,
    policies: settings.policies.filter(({ agent }) => agent !== from),
    pins: settings.pins.map((pin) => (pin.agent === from ? { ...pin, agent: to } : pin)),
  };
}
