/**
 * Watches a process from inside: looks at it every minute, and for each scrape, and tells if something is not
 * well. What fails here is logged, and disturbs nothing else.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Condition } from '../domain/notice/events.js';
import { listenForScrapes, type MetricsListener } from './metrics/listener.js';
import type { Metrics } from './metrics/metrics.js';
import type { Sample } from './metrics/table.js';
import { Notifier, type NotifierSettings } from './notify/notifier.js';

export interface Seen {
  readonly samples: readonly Sample[];
  readonly conditions: readonly Condition[];
}

export interface MonitorOptions {
  readonly role: 'agent' | 'receiver';
  readonly look: () => Promise<Seen>;
  /** Null: no metrics. */
  readonly metrics: Metrics | null;
  readonly listen: { readonly host: string; readonly port: number } | null;
  /** As they are at the moment. */
  readonly notify: () => NotifierSettings;
  readonly bookPath: string;
  readonly log: Logger;
  readonly everyMs?: number;
  /** Not at once: who waited for this process comes first, and is then not missed. */
  readonly firstMs?: number;
}

export interface Monitor {
  /** Of the metrics; null: they are not served. */
  readonly url: string | null;
  close(): Promise<void>;
}

const EVERY_MS = 60_000;
const FIRST_MS = 5 * 60_000;
const CLOSE_MS = 5_000;
/** Scrapes that come sooner after another share its look. */
const FRESH_MS = 5_000;

export async function startMonitor(options: MonitorOptions): Promise<Monitor> {
  const { role, look, metrics, listen, log, bookPath: path, everyMs = EVERY_MS } = options;
  let listener: MetricsListener | null = null;
  if (listen !== null && metrics !== null) {
    let shown: Promise<void> = Promise.resolve();
    let shownAtMs = Number.NEGATIVE_INFINITY;
    const show = async () => metrics.show((await look()).samples);
    listener = await listenForScrapes(listen, async () => {
      if (performance.now() - shownAtMs > FRESH_MS) {
        shownAtMs = performance.now();
        shown = show();
      }
      await shown;
      return { contentType: metrics.contentType, text: await metrics.text() };
    }).catch((error: Error) => {
      log.error({ reason: error.message }, 'metrics are not served');
      return null;
    });
    if (listener !== null) log.info({ url: listener.url }, 'metrics are served');
  }
  const notifier = await Notifier.open({ role, path, log, nowMs: Date.now }).catch((error: Error) => {
    log.error({ reason: error.message }, 'nobody is notified');
    return null;
  });
  let running: Promise<void> | null = null;
  const tick = () => {
    if (running !== null || notifier === null || options.notify().channels.size === 0) return;
    running = look()
      .then(({ conditions }) => notifier.tick(conditions, options.notify()))
      .catch((error: Error) => log.error({ err: error }, 'the look for notifications failed'))
      .finally(() => {
        running = null;
      });
  };
  let later: NodeJS.Timeout | undefined;
  const first = setTimeout(() => {
    tick();
    later = setInterval(tick, everyMs).unref();
  }, options.firstMs ?? FIRST_MS).unref();
  return {
    url: listener?.url ?? null,
    close: async () => {
      clearTimeout(first);
      clearInterval(later);
      await listener?.close();
      // What was not sent is in the book.
      await Promise.race([running, sleep(CLOSE_MS, undefined, { ref: false })]);
    },
  };
}
