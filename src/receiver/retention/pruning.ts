/** A receiver that serves removes by itself what no rule keeps, every hour. */

import type { Logger } from 'pino';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { Store } from '../../store/port/store.js';
import type { RetentionEvent } from './events.js';
import type { RetentionService } from './service.js';

const PRUNE_INTERVAL_MS = 60 * 60_000;
/** After the start: agents that waited for the receiver go on first. */
const FIRST_PRUNE_MS = 5 * 60_000;

export interface PruningOptions {
  readonly store: Store;
  readonly service: RetentionService;
  readonly log: Logger;
  /** For both. Default: an hour, the first time after five minutes. */
  readonly intervalMs?: number | undefined;
  /** Each time: why nothing can be removed, null: all went well. */
  readonly onProblem?: (reason: string | null) => void;
}

/** @returns stops it, when a run that is going on has ended */
export function pruneByItself({
  store,
  service,
  log,
  intervalMs,
  onProblem,
}: PruningOptions): () => Promise<void> {
  const stop = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const prune = async (): Promise<void> => {
    try {
      const { retention } = store;
      // The clock is looked at even if nothing goes: it is the longer, the less, that it is not watched.
      const hasRules =
        retention.fault !== null ||
        retention.settings.policies.length + retention.settings.lock.length > 0 ||
        (await store.journals.list({})).length > 0;
      if (!hasRules) return;
      const { going, staying, clockDoubt, journals } = await service.prune(
        { agent: null, device: null },
        stop.signal,
      );
      onProblem?.(clockDoubt);
      if (clockDoubt !== null)
        log.warn(
          { event: 'clock-doubted' satisfies LogEvent, reason: clockDoubt },
          'the clock is not believed: nothing goes by its time',
        );
      log[going > 0 ? 'info' : 'debug'](
        { event: 'prune-done' satisfies LogEvent, removed: going, staying, journals },
        'points pruned',
      );
    } catch (error) {
      if (stop.signal.aborted) return;
      const reason = (error as Error).message;
      onProblem?.(reason);
      log.error({ event: 'prune-failed' satisfies LogEvent, reason }, 'points are not pruned');
    }
  };
  const run = () => {
    running = running.then(prune);
  };
  const first = setTimeout(run, intervalMs ?? FIRST_PRUNE_MS).unref();
  const later = setInterval(run, intervalMs ?? PRUNE_INTERVAL_MS).unref();
  return async () => {
    stop.abort();
    clearTimeout(first);
    clearInterval(later);
    await running;
  };
}

const WORDS: Readonly<Record<RetentionEvent['type'], string>> = {
  'point-removed': 'point removed',
  'journal-removed': 'journal removed',
  'point-pinned': 'point pinned',
  'point-unpinned': 'point unpinned',
  'retention-set': 'retention set',
  'clock-confirmed': 'clock confirmed',
  'retention-reset': 'retention begun anew',
};

export function logRetention(log: Logger, { type, ...details }: RetentionEvent): void {
  const event = type === 'point-removed' ? { event: 'point-removed' satisfies LogEvent } : {};
  log.info({ ...event, retention: type, ...details }, WORDS[type]);
}
