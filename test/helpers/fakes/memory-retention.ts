/** Retention of a store in memory: settings that are never lost, and a clock that is always believed. */
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { ClockJudgement } from '../../../src/domain/retention/clock.js';
import { NO_SETTINGS, type RetentionSettings } from '../../../src/domain/retention/settings.js';
import type { StoreRetention } from '../../../src/store/port/store.js';

export class MemoryRetention implements StoreRetention {
  settings: RetentionSettings = NO_SETTINGS;
  readonly fault = null;
  readonly #now: () => Date;

  constructor(now: () => Date) {
    this.#now = now;
  }

  clock(): ClockJudgement {
    return { isBelieved: true, nowMs: this.#now().getTime() };
  }

  async noteClock(): Promise<ClockJudgement> {
    return this.clock();
  }

  async change(make: Parameters<StoreRetention['change']>[0]): Promise<RetentionSettings> {
    this.settings = make(this.settings, this.clock());
    return this.settings;
  }

  async reset(): Promise<void> {
    throw new StillpointError('usage', { thing: 'retention', reason: 'it is whole' });
  }

  async confirmClock(): Promise<void> {}
}
