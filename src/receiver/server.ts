/**
 * The receiver as a network service: identity, tenants, store and routes put together.
 *
 * Close: no new connections, idle ones end, requests in flight get a bounded time to finish, then the
 * sessions are closed, then the store.
 */

import type { Logger } from 'pino';
import { PARTIAL_KEEP_MS, SCRUB_PERIOD_MS } from '../domain/base/limits.js';
import type { LogEvent } from '../domain/base/log-events.js';
import type { RateSchedule } from '../domain/session/rate-limit.js';
import type { Counters } from '../monitor/metrics/table.js';
import { NO_COUNTERS } from '../monitor/metrics/table.js';
import type { BodyTimeouts } from '../protocol/transport/request-body.js';
import { findStoreIdentity } from '../store/open.js';
import type { Store } from '../store/port/store.js';
import type { ConnectionLimits } from './access/connections.js';
import { loadIdentity, parseListen } from './access/identity.js';
import { Quotas } from './access/quotas.js';
import { Tenants } from './access/tenants.js';
import { AgentAdmin, finishRename } from './agent-admin.js';
import { AuditLog } from './audit/log.js';
import { noteRetention, recordWish } from './audit/retention.js';
import { Trail } from './audit/trail.js';
import { openControl } from './control/server.js';
import { type Face, listenOn } from './face.js';
import { Groups } from './groups/groups.js';
import { backUpInRound } from './groups/in-round.js';
import type { GroupRuns } from './groups/runs.js';
import { Auditing, type AuditingOptions } from './journals/auditing.js';
import type { OrderBook } from './orders/orders.js';
import { Remote } from './orders/remote.js';
import { type RoundsSource, roundsOfDirectory } from './orders/rounds-source.js';
import type { RetentionEvent } from './retention/events.js';
import { logRetention, pruneByItself } from './retention/pruning.js';
import { RetentionService } from './retention/service.js';
import { ReceiverService } from './sessions/service.js';
import { Scrubbing } from './upkeep/scrubbing.js';
import { type ReceiverFacts, receiverFacts } from './watch/facts.js';
import { countSession } from './watch/gauges.js';
import { Heard } from './watch/heard.js';

export interface ServerOptions {
  /** Made by initReceiver. */
  readonly dir: string;
  /** `HOST:PORT`, port 0 for any; default: as initialized. */
  readonly listen?: string;
  /** Default: the directory's own files. */
  readonly rounds?: RoundsSource;
  readonly log: Logger;
  readonly openStore: (dir: string, log: Logger, settings: StoreSettings) => Promise<Store>;
  /** How long partial sets are kept this time; default: as initialized. */
  readonly keepPartialMs?: number;
  /** Default: every 10 minutes. Not at the start: agents that waited for the receiver go on first. */
  readonly collectIntervalMs?: number;
  /** Within which the store is read back this time, 0: not by schedule; default: as initialized. */
  readonly scrubPeriodMs?: number;
  readonly scrubRate?: RateSchedule;
  /** Default: every 10 minutes. */
  readonly scrubIntervalMs?: number;
  /** Default: every hour. */
  readonly pruneIntervalMs?: number;
  /** Default: audits of journals by the addon, looked for every 20 seconds. */
  readonly audits?: Pick<AuditingOptions, 'tools' | 'intervalMs'>;
  /** Points that were removed, pins, changes of what is kept: for an audit log. They are logged anyway. */
  readonly onRetention?: (event: RetentionEvent) => void;
  readonly timeouts?: Partial<BodyTimeouts>;
  readonly connectionLimits?: Partial<ConnectionLimits>;
  readonly now?: () => Date;
  /** Of metrics. Default: nothing is counted. */
  readonly counters?: Counters;
}

export interface StoreSettings {
  readonly keepPartialMs: number;
}

export interface RunningServer {
  /** `https://HOST:PORT` with the port that it has. */
  readonly url: string;
  /** What agents are asked to back up. */
  readonly orders: OrderBook;
  /** Groups over several hosts that are being backed up. */
  readonly runs: GroupRuns;
  /** For commands, and rounds by schedule. */
  readonly remote: Remote;
  /** Makes its certificates anew if they are near their end; it does so every hour by itself. */
  renew(): Promise<void>;
  /** For commands, a configuration file, and the removal of an agent. */
  readonly retention: RetentionService;
  /** As they are now: for metrics and notifications. */
  facts(): Promise<ReceiverFacts>;
  /** Whether the store answers, and is still the one in the directory. */
  isAlive(): Promise<boolean>;
  close(): Promise<void>;
}

/** The id of no point: to ask the store for one takes what every session needs of it. */
const NO_POINT = '0'.repeat(32);
const COLLECT_INTERVAL_MS = 10 * 60_000;

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { dir, log, counters = NO_COUNTERS } = options;
  const now = options.now ?? (() => new Date());
  const identity = await loadIdentity(dir, now());
  const listen = parseListen(options.listen ?? identity.settings.listen);
  const keepPartialMs = options.keepPartialMs ?? identity.settings.keepPartialMs ?? PARTIAL_KEEP_MS;
  const problems = new Map<string, string>();
  const noteProblem = (what: string) => (reason: string | null) => {
    if (reason === null) problems.delete(what);
    else problems.set(what, reason);
  };
  const heard = new Heard(() => now().getTime());
  const store = await options.openStore(dir, log, { keepPartialMs });
  const trail = new Trail(
    new AuditLog({
      ...{ dir, now },
      onProblem: (reason) => {
        noteProblem('audit log')(reason);
        if (reason === null) log.info('the audit log is written again');
        else
          log.error(
            { event: 'audit-failed' satisfies LogEvent, reason },
            'the audit log can not be written: commands are refused, backups go on',
          );
      },
    }),
  );
  let face: Face | null = null;
  try {
    const tenants = await Tenants.open(
      dir,
      async () => (await loadIdentity(dir, now())).authority,
      (message) => log.error(message),
    );
    const rounds = options.rounds ?? roundsOfDirectory(dir);
    const held = await finishRename({ dir, store, rounds, tenants, trail }, (problem) => log.error(problem));
    const quotas = await Quotas.load(dir);
    const service = await ReceiverService.open(store, {
      ...{ trail, quotas },
      onEnd: (key, end) => countSession(counters, key, end),
      onFreed: (bytes) => counters.add('stillpoint_freed_bytes_total', {}, bytes),
    });
    for (const name of held) service.held.add(name);
    const { timeouts = {}, connectionLimits = {} } = options;
    const listening = await listenOn({
      ...{ dir, listen, identity, tenants, quotas, service, trail, log, now, timeouts, connectionLimits },
      onMessage: (agent, bodyBytes) => {
        heard.note(agent);
        counters.add('stillpoint_requests_total', { agent }, 1);
        counters.add('stillpoint_request_bytes_total', { agent }, bodyBytes);
      },
      onRefusal: (code) => counters.add('stillpoint_errors_total', { code }, 1),
    });
    face = listening;
    const { dialOut, url, renew } = listening;
    const { orders, runs } = service;
    const groups = new Groups({
      ...{ dir, store, orders, runs, tenants, log, counters, now },
      ...{ list: () => rounds.groups(), audit: trail.log },
    });
    const remote = await Remote.start({
      ...{ dir, rounds, store, tenants, quotas, orders, dialOut, trail, log, now },
      backUpGroup: (wish) => backUpInRound(groups.backups, wish),
    });
    const agents = new AgentAdmin({
      ...{ dir, store, rounds, service, tenants, trail, now },
      connections: listening.connections,
      reload: () => remote.reload(),
      onProblem: (problem) => log.error(problem),
    });
    const scrubPeriodMs = options.scrubPeriodMs ?? identity.settings.scrubPeriodMs ?? SCRUB_PERIOD_MS;
    const scrubbing = new Scrubbing({
      ...{ store, log, now, rate: options.scrubRate, intervalMs: options.scrubIntervalMs },
      periodMs: scrubPeriodMs === 0 ? null : scrubPeriodMs,
      onProblem: noteProblem('scrub'),
    });
    const auditing = new Auditing({
      ...{ store, log, hasSessions: () => store.captures().length > 0, ...options.audits },
      noteAudit: (...noted) => service.journals.noteAudit(...noted),
      onAudit: ({ agent, device }, { fault }) => {
        const result = fault === null ? 'right' : 'wrong';
        counters.add('stillpoint_journal_audits_total', { agent, device, result }, 1);
      },
    });
    const retention = new RetentionService({
      ...{ store, journals: { isHeard: (journal) => service.journals.isHeard(journal) } },
      onEvent: (event) => {
        logRetention(log, event);
        noteRetention(trail.log, event);
        if (event.type === 'point-removed') counters.add('stillpoint_removed_points_total', {}, 1);
        options.onRetention?.(event);
      },
      endSessions: (key) => service.endIdle(key, now()),
      record: (wish, work) => recordWish(trail.log, wish, work),
    });
    const collect = (dryRun: boolean, signal: AbortSignal) => {
      const run = () => service.collecting.run({ force: true, dryRun }, signal);
      if (dryRun) return run();
      return trail.log.act({ who: 'operator', what: 'collect' }, run, ({ freedBytes }) => ({
        bytes: Math.max(0, freedBytes),
      }));
    };
    const duties = { remote, groups, agents, retention, scrubbing, collect };
    const control = await openControl(dir, duties, log).catch((error: Error) => {
      // The path may be too long for a socket: agents are served anyway.
      log.warn({ reason: error.message }, 'no commands are taken: backup, round, agents');
      return null;
    });
    log.info(
      { event: 'receiver-serving' satisfies LogEvent, url, receiver: identity.settings.id },
      'serving',
    );
    const collecting = setInterval(
      () => void service.collect(),
      options.collectIntervalMs ?? COLLECT_INTERVAL_MS,
    ).unref();
    const stopPruning = pruneByItself({
      store,
      service: retention,
      log,
      intervalMs: options.pruneIntervalMs,
      onProblem: noteProblem('removal of points'),
    });
    return {
      ...{ url, orders, runs, remote, retention, renew },
      facts: () =>
        receiverFacts({
          ...{ dir, store, tenants, orders, rounds, groups, heard, problems, now },
          scrubStatus: () => scrubbing.status(),
        }),
      isAlive: async () => {
        await store.point(null, NO_POINT);
        return (await findStoreIdentity(dir)).storeId === store.storeId;
      },
      close: async () => {
        clearInterval(collecting);
        // First: a command that waits for it holds the control socket.
        service.collecting.stop();
        await stopPruning();
        orders.close();
        await scrubbing.close();
        await auditing.close();
        await control?.close();
        await remote.close();
        await listening.close();
        await service.close();
        await trail.close();
        await store.close();
        log.info({ event: 'receiver-closed' satisfies LogEvent }, 'receiver closed');
      },
    };
  } catch (error) {
    await face?.close();
    await trail.close();
    await store.close();
    throw error;
  }
}
