/** Providers in memory, for what is above them. */
import type { Provider, RestOptions, SnapshotProvider } from '../../../src/capture/ports.js';
import { StillpointError } from '../../../src/domain/base/errors.js';

export interface FakeProviderOptions {
  /** Why it can't take the device; undefined: it can. */
  readonly refusal?: string;
  readonly isSetUp?: boolean;
  readonly takesDevicesInUse?: boolean;
  /** What it was asked for. */
  readonly opened?: RestOptions[];
}

export function fakeProvider(name: string, options: FakeProviderOptions): Provider {
  const { refusal, isSetUp = false, takesDevicesInUse = true, opened } = options;
  const gain = { kinds: ['crash'], changes: 'nowhere', cost: 'nothing', seenAs: [] } as const;
  return {
    name,
    takesDevicesInUse,
    probe: async ({ path: thing }) => {
      if (refusal !== undefined) {
        const about = { thing, reason: refusal, remedy: 'Wake it.' };
        return { ...gain, possible: false, isSetUp, refusal: new StillpointError('usage', about) };
      }
      const open = (rest: RestOptions): SnapshotProvider => {
        opened?.push(rest);
        return { name, hold: () => Promise.reject(new Error('nothing is held')) };
      };
      return { ...gain, possible: true, reason: `${name} can`, open };
    },
  };
}
