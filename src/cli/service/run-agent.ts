/**
 * The agent's process: the daemon with its schedules and its control socket, and a loop for the orders of
 * each receiver, over connections that it makes or accepts.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { unlessAborted } from '../../agent/common/cancel.js';
import { agentSocketPath } from '../../agent/control/messages.js';
import { openAgentControl } from '../../agent/control/server.js';
import { Daemon } from '../../agent/daemon/daemon.js';
import { presenceOf } from '../../agent/daemon/presence.js';
import { limitProcess } from '../../agent/daemon/process-limits.js';
import type { DaemonView } from '../../agent/daemon/view.js';
import { keepTracking } from '../../agent/orders/keep-tracking.js';
import { orderLoop } from '../../agent/orders/order-loop.js';
import { findEnrolment, listEnrolments, readEnrolment, saveEnrolment } from '../../agent/state/enrolment.js';
import { RunTally } from '../../agent/watch/tally.js';
import { thawLeftFrozen } from '../../capture/quiesce/thaw.js';
import { makeDirectory } from '../../config/state-file.js';
import { type ServiceNotifier, serviceNotifier } from '../../config/systemd.js';
import { parseHostPort } from '../../domain/base/addresses.js';
import { StillpointError } from '../../domain/base/errors.js';
import { NO_COUNTERS } from '../../monitor/metrics/table.js';
import { lockFile } from '../../native/files.js';
import { type Enrolment, isCaller, receiverOrigin } from '../../protocol/certificates/enrolment.js';
import { enrollOver } from '../../protocol/enroll.js';
import { provenAs, ReceiverListener } from '../../protocol/transport/listener.js';
import { agentConfig } from '../common/agent-config.js';
import {
  addressOf,
  backUpJob,
  DevicePacers,
  orderClient,
  type Reached,
  receiverOf,
} from '../common/agent-targets.js';
import type { CommandContext } from '../common/context.js';
import { keepEnrolment } from '../common/keep-enrolment.js';
import { createLog } from '../common/log.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { monitorAgent, openMetrics } from './monitoring.js';
import { shipJournals } from './ship-journals.js';

interface WaitOptions {
  readonly store?: string;
  /** Undefined: as the configuration says. */
  readonly parallel?: number;
}

const KEEP_UP_MS = 6 * 60 * 60_000;

type ReceiverView = DaemonView['receivers'][number];

const STATUS_EVERY_MS = 30_000;

export async function runAgent(context: CommandContext, options: WaitOptions): Promise<number> {
  const { store } = options;
  const named = store === undefined ? null : await findEnrolment(context.stateDirectory, store);
  const receivers = async (onMissing: (url: string) => void): Promise<Reached[]> => {
    if (named !== null) return [{ enrolment: named }];
    const asked = (await agentConfig(context)).settings.receivers?.map(receiverOrigin) ?? null;
    const all = await listEnrolments(context.stateDirectory);
    for (const url of asked ?? []) if (!all.some((enrolment) => enrolment.url === url)) onMissing(url);
    return all
      .filter((enrolment) => !isCaller(enrolment) && (asked === null || asked.includes(enrolment.url)))
      .map((enrolment) => ({ enrolment }));
  };
  const { devices, groups } = await agentConfig(context);
  const hasStore = [...devices, ...groups].some((job) => job.store !== null);
  if ((await receivers(() => undefined)).length === 0 && !hasStore) {
    throw new StillpointError('not-enrolled', {
      thing: 'this machine',
      reason: 'it is not enrolled with any receiver that it can connect to',
      remedy:
        'Run "stillpoint enroll URL CODE", "stillpoint agent listen" where only the receiver can connect, or name a store in agent.toml.',
    });
  }
  return alone(context, (log) => serve(context, options, log, receivers));
}

export async function listenAsAgent(
  context: CommandContext,
  options: WaitOptions & { readonly listen: string; readonly enroll?: string },
): Promise<number> {
  const { stateDirectory, signal } = context;
  const { host, port } = parseHostPort(options.listen);
  const known = options.enroll === undefined ? await findEnrolment(stateDirectory, options.store) : null;
  return alone(context, async (log) => {
    const listener = await ReceiverListener.listen({
      ...{ host, port },
      prove:
        known === null
          ? () => Promise.reject(new Error('nobody is expected yet'))
          : provenAs(addressOf(known)),
      onRefused: (address, error) => log.warn({ address, reason: error.message }, 'connection refused'),
    });
    try {
      log.info({ listen: `${host}:${listener.port}` }, 'listening for the receiver');
      const enrolment = known ?? (await enrolWhenCalled(context, listener, options.enroll ?? '', log));
      listener.proveWith(provenAs(addressOf(enrolment)));
      await serve(context, options, log, async () => [{ enrolment, connect: listener.connect }]);
    } finally {
      await listener.close();
    }
    if (signal.aborted) log.info('listener closed');
  });
}

async function enrolWhenCalled(
  { stateDirectory, signal }: CommandContext,
  listener: ReceiverListener,
  code: string,
  log: Logger,
): Promise<Enrolment> {
  const enrolment = await unlessAborted(signal, enrollOver(listener, code, { signal }));
  await saveEnrolment(stateDirectory, enrolment);
  log.info({ agent: enrolment.agent, receiver: enrolment.receiverId }, 'enrolled');
  return enrolment;
}

/** One process of a state directory is its agent. */
async function alone(context: CommandContext, work: (log: Logger) => Promise<void>): Promise<number> {
  const { stateDirectory, signal } = context;
  await thawLeftFrozen();
  await makeDirectory(stateDirectory);
  const lock = await lockFile(join(stateDirectory, 'agent.lock'));
  if (lock === null) {
    throw new StillpointError('busy', {
      thing: `agent in ${stateDirectory}`,
      reason: 'another process waits for orders there',
      remedy: 'Stop it first.',
      permanent: false,
    });
  }
  try {
    const log = createLog(context.logLevel, context.stdout);
    await work(log);
    if (signal.aborted) log.info('agent stopped');
    return EXIT_OK;
  } finally {
    await lock.close();
  }
}

async function serve(
  context: CommandContext,
  { parallel: asked }: WaitOptions,
  log: Logger,
  receivers: (onMissing: (url: string) => void) => Promise<Reached[]>,
): Promise<void> {
  const { stateDirectory, environment, userId } = context;
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  const { metrics: served, ...first } = (await agentConfig(context)).settings;
  const metrics = await openMetrics('agent', served);
  const tally = new RunTally(metrics ?? NO_COUNTERS);
  let notify = first.notify;
  const pacers = new DevicePacers();
  const loops = new OrderLoops(context, log, signal, { tally, pacers });
  const notEnrolled = (url: string) => log.warn({ receiver: url }, 'this machine is not enrolled with it');
  let reached: readonly Reached[] = [];
  let serving: Daemon | null = null;
  const daemon = await Daemon.open({
    ...{ stateDirectory, log, signal, nowMs: Date.now, random: Math.random },
    load: async () => {
      const { settings, devices, groups } = await agentConfig(context);
      const found = await receivers(notEnrolled);
      const parallel = asked ?? settings.parallel;
      const apply = async () => {
        reached = found;
        notify = settings.notify;
        await limitProcess(settings.limits, log);
        if (serving !== null) loops.add(reached, serving, parallel);
      };
      return { parallel, devices, groups, apply };
    },
    // As they were when the configuration was applied: it may be wrong on disk by now.
    backUp: (job, options) =>
      tally.run(job.name, () => backUpJob(context, job, options, { reached, pacers }, log)),
    isThere: presenceOf(),
  });
  const journals = shipJournals({
    ...{ context, daemon, pacers, log, signal, reached: () => reached },
    counters: metrics ?? NO_COUNTERS,
  });
  const beside = () => ({ receivers: loops.view(), journals: journals.view() });
  const notifier = serviceNotifier(
    environment,
    () => daemon.isAlive,
    (reason) => log.warn({ reason }, 'systemd could not be told'),
  );
  const control = await openAgentControl(
    agentSocketPath(stateDirectory, environment, userId),
    daemon,
    beside,
    log,
  ).catch((error: Error) => {
    log.warn({ reason: error.message }, 'no commands are taken: status, backup --now, pause');
    return null;
  });
  const monitor = await monitorAgent({
    ...{ metrics, log, stateDirectory, daemon, tally, beside, listen: served.listen },
    notify: () => notify,
  });
  const onHup = () => void reload(daemon, notifier, log);
  process.on('SIGHUP', onHup);
  try {
    serving = daemon;
    loops.add(reached, daemon, daemon.parallel);
    const tracking = keepTracking({ listDevices: async () => daemon.devices, log, signal });
    const shipping = journals.run();
    await notifier.ready();
    const telling = setInterval(() => void tellStatus(daemon, notifier), STATUS_EVERY_MS).unref();
    await daemon.run().finally(() => clearInterval(telling));
    await notifier.stopping();
    await Promise.all([tracking, shipping, loops.ended()]);
  } finally {
    over.abort();
    process.off('SIGHUP', onHup);
    notifier.close();
    await control?.close();
    await monitor.close();
  }
}

async function reload(daemon: Daemon, notifier: ServiceNotifier, log: Logger): Promise<void> {
  await notifier.reloading();
  try {
    await daemon.reload();
  } catch (error) {
    log.debug({ reason: (error as Error).message }, 'not reloaded');
  }
  await notifier.ready();
}

/** Now, and every few hours. */
async function keepUp(keep: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await keep().catch(() => undefined);
    await sleep(KEEP_UP_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function tellStatus(daemon: Daemon, notifier: ServiceNotifier): Promise<void> {
  const { devices } = await daemon.view(undefined, false);
  const running = devices.filter(({ state }) => state === 'running').map(({ name }) => name);
  const wrong = devices.filter(({ problem }) => problem !== null).length;
  const doing = running.length === 0 ? 'waiting' : `backing up ${running.join(', ')}`;
  const groups = devices.filter(({ members }) => members !== null).length;
  const count = `${devices.length - groups} devices${groups === 0 ? '' : `, ${groups} groups`}`;
  await notifier.status(`${count}, ${doing}${wrong === 0 ? '' : `, ${wrong} with problems`}`);
}

/** A loop for each receiver; those of a configuration that is loaded again are added. */
class OrderLoops {
  readonly #context: CommandContext;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  readonly #tally: RunTally;
  readonly #pacers: DevicePacers;
  readonly #ends = new Map<string, Promise<void>>();
  readonly #seen = new Map<string, ReceiverView>();
  /** Devices that are being backed up by order, of all receivers. */
  readonly #busy = new Set<string>();

  constructor(
    context: CommandContext,
    log: Logger,
    signal: AbortSignal,
    { tally, pacers }: { readonly tally: RunTally; readonly pacers: DevicePacers },
  ) {
    this.#tally = tally;
    this.#pacers = pacers;
    this.#context = context;
    this.#log = log;
    this.#signal = signal;
  }

  add(reached: readonly Reached[], daemon: Daemon, parallel: number): void {
    for (const { enrolment, connect } of reached) {
      const { receiverId, agent } = enrolment;
      if (this.#ends.has(receiverId)) continue;
      const url = connect === undefined ? enrolment.url : receiverId;
      const seen: ReceiverView = { url, problem: 'it has not answered yet', rounds: [] };
      this.#seen.set(receiverId, seen);
      let present = enrolment;
      const orders = orderClient(enrolment, parallel, connect);
      const keep = async () => {
        const info = await orders.info().catch(() => null);
        if (info === null) return;
        const say = (text: string) => this.#log.info({ agent: present.agent }, text);
        const { stateDirectory } = this.#context;
        await keepEnrolment({ stateDirectory, enrolment: present, client: orders, info, say });
        present = (await readEnrolment(stateDirectory, receiverId)) ?? present;
      };
      const keeping = keepUp(keep, this.#signal);
      const loop = orderLoop({
        ...{ stateDirectory: this.#context.stateDirectory, busy: this.#busy, signal: this.#signal, orders },
        ordersMax: parallel,
        listDevices: async () => daemon.devices.filter((device) => device.orders),
        openReceiver: (limitRate, device) => {
          const pacer = device === undefined ? undefined : this.#pacers.of(device, limitRate);
          return receiverOf(present, limitRate, connect, pacer);
        },
        perform: (device, full, signal, work) =>
          daemon.performOrder(device, full, signal, (inner, onEvent) =>
            this.#tally.run(device.name, () => work(inner, onEvent)),
          ),
        performGroup: (wish, signal, work) =>
          daemon.performGroupOrder(wish, signal, (inner, onEvent) =>
            this.#tally.run(wish.name, () => work(inner, onEvent)),
          ),
        plans: () => daemon.plans(),
        onRounds: (rounds) => {
          seen.rounds = [...rounds];
        },
        onProblem: (problem) => {
          seen.problem = problem;
        },
        log: this.#log.child({ agent, receiver: url }),
      });
      this.#ends.set(
        receiverId,
        loop.then(() => keeping).finally(() => orders.close()),
      );
    }
  }

  view(): ReceiverView[] {
    return [...this.#seen.values()];
  }

  async ended(): Promise<void> {
    await Promise.all(this.#ends.values());
  }
}
