/**
 * A group over two hosts, each with a tap, an agent and a link of its own, and a program that writes to both
 * in turn: in every group point the last numbers of both are those that were written last, without holes.
 * Meanwhile links are cut and agents end, at random: then there is a group point, or none of its points.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { orderLoop } from '../../../src/agent/orders/order-loop.js';
import { runRestore } from '../../../src/agent/restore/restore.js';
import type { DeviceSettings } from '../../../src/config/agent-config.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { isOver, RUN_LIMITS, type Run } from '../../../src/domain/group/run.js';
import { isEnded } from '../../../src/domain/order/order.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { Enrolment } from '../../../src/protocol/certificates/enrolment.js';
import type { ReceiverClient } from '../../../src/protocol/client.js';
import { measuredLink } from '../../../src/protocol/transport/measured-link.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { FILESYSTEM_PROGRAMS } from '../../helpers/disks/filesystem.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import { isOneInstant, live, type Side, tapped, Writer } from '../../helpers/groups/in-turn.js';
import { whyNoTracking } from '../../helpers/live/world.js';
import { Relay } from '../../helpers/machines/relay.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG, seededRandom } from '../../helpers/seed.js';
import { makeTlsReceiver, type TlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const ROUNDS = LONG ? 60 : 10;
const SIZE_BYTES = ROUNDS * 16 * MiB;
const LIMITS = { ...RUN_LIMITS, closedMs: 2_000, closeMs: 10_000, cutMs: 4_000, silentMs: 30_000 };
const TROUBLES = ['none', 'none', 'cut', 'end'] as const;

type Kind = 'tap-one' | 'tap-two' | 'live';

class Host {
  readonly side: Side;
  readonly client: ReceiverClient;
  readonly #receiver: TlsReceiver;
  readonly #enrolment: Enrolment;
  readonly #relay: Relay;
  readonly #directory: string;
  readonly #settings: DeviceSettings;
  #stop = new AbortController();
  #ended: Promise<unknown> = Promise.resolve();

  private constructor(
    receiver: TlsReceiver,
    enrolment: Enrolment,
    relay: Relay,
    directory: string,
    side: Side,
  ) {
    this.side = side;
    this.#receiver = receiver;
    this.#enrolment = { ...enrolment, url: relay.url };
    this.#relay = relay;
    this.#directory = directory;
    const { path, device, provider = null } = side.member;
    this.#settings = deviceNamed(directory, device, { path, provider });
    this.client = receiver.client(enrolment);
  }

  /** @param kind what its device is, and its name */
  static async make(t: ExecutionContext, receiver: TlsReceiver, root: string, kind: Kind): Promise<Host> {
    const directory = join(root, kind);
    await mkdir(directory);
    const side = await (kind === 'live'
      ? live(t, directory, SIZE_BYTES)
      : tapped(t, directory, kind, SIZE_BYTES));
    const relay = await Relay.start(t, Number(new URL(receiver.url).port));
    const host = new Host(receiver, await receiver.enroll(kind), relay, directory, side);
    t.teardown(() => host.end());
    return host;
  }

  get name(): string {
    return this.side.member.device;
  }

  start(): void {
    this.#stop = new AbortController();
    const orders = this.#receiver.client(this.#enrolment);
    this.#ended = orderLoop({
      ...{ stateDirectory: this.#directory, orders, ordersMax: 2, busy: new Set<string>() },
      listDevices: async () => [this.#settings],
      openReceiver: () => ({ ...measuredLink(), receiver: this.#receiver.client(this.#enrolment) }),
      ...{ log: pino({ level: 'silent' }), signal: this.#stop.signal, pauseMs: 100 },
    });
  }

  cutLink(): void {
    this.#relay.cut();
  }

  /** Nothing that it still sends arrives. */
  async end(): Promise<void> {
    this.#stop.abort();
    this.#relay.cut();
    await this.#ended;
  }

  async numbersIn(point: Point): Promise<number[]> {
    const target = `${this.#directory}-restored`;
    await runRestore({ receiver: this.client, point, target, stateDirectory: this.#directory });
    const numbers = await this.side.numbersIn(target);
    await rm(target);
    return numbers;
  }
}

/** @returns the run as it ended, when its orders have ended, too */
async function runGroup(receiver: TlsReceiver, hosts: readonly Host[]): Promise<Run> {
  const { runs, orders } = receiver.server;
  const id = randomBytes(16).toString('hex');
  const all = hosts.map(({ name }) => ({ agent: name, devices: [name] }));
  const waits: Promise<void>[] = [];
  const run = await new Promise<Run>((resolve) => {
    runs.start({ id, name: 'all', hosts: all, missing: 'fail', limits: LIMITS }, (changed) => {
      if (isOver(changed)) resolve(changed);
    });
    for (const { agent, devices } of all) {
      const group = { runId: id, name: 'all', devices };
      const ended = new Promise<void>((end) => {
        orders.place({ agent, device: agent, full: false, group }, 20_000, (order) => {
          if (!isEnded(order)) return;
          if (order.failure !== null) runs.gone(id, agent, order.failure);
          if (order.state === 'expired' || order.state === 'lost') runs.fail(id, GONE);
          end();
        });
      });
      waits.push(ended);
    }
  });
  await Promise.race([Promise.all(waits), sleep(20_000, undefined, { ref: false })]);
  return run;
}

const GONE = { code: 'connection-lost', thing: 'agent', reason: 'it is gone', permanent: false } as const;

async function connected({ server }: TlsReceiver, hosts: readonly Host[]): Promise<void> {
  const isHere = ({ name }: Host) => server.orders.presence(name).isConnected;
  for (const endMs = Date.now() + 20_000; !hosts.every(isHere); await sleep(20))
    if (Date.now() > endMs) throw new Error('an agent does not come back');
}

interface Round {
  readonly round: number;
  readonly trouble: (typeof TROUBLES)[number];
  /** What it goes wrong with, and when. */
  readonly host: Host;
  readonly afterMs: number;
}

class Scene {
  readonly #t: ExecutionContext;
  readonly #receiver: TlsReceiver;
  readonly #writer: Writer;
  readonly hosts: readonly Host[];
  made = 0;

  constructor(t: ExecutionContext, receiver: TlsReceiver, hosts: readonly Host[]) {
    this.#t = t;
    this.#receiver = receiver;
    this.hosts = hosts;
    const sides = hosts.map(({ side }) => side);
    this.#writer = new Writer(sides, SIZE_BYTES);
  }

  static async make(t: ExecutionContext, kinds: readonly Kind[]): Promise<Scene> {
    const root = await temporaryDirectory(t, 'hosts');
    const store = join(root, 'store');
    await createStore(store);
    const receiver = await makeTlsReceiver(t, { openStore: () => openStore(store) });
    const hosts: Host[] = [];
    for (const kind of kinds) hosts.push(await Host.make(t, receiver, root, kind));
    for (const host of hosts) host.start();
    return new Scene(t, receiver, hosts);
  }

  async run({ round, trouble, host, afterMs }: Round): Promise<void> {
    await connected(this.#receiver, this.hosts);
    const writing = this.#writer.start();
    await this.#writer.further();
    const disturb = (async () => {
      await sleep(afterMs);
      if (trouble === 'cut') host.cutLink();
      if (trouble !== 'end') return;
      await host.end();
      host.start();
    })();
    const run = await runGroup(this.#receiver, this.hosts);
    await disturb;
    // Nothing is left closed or frozen.
    await this.#writer.further();
    this.#writer.stop();
    await writing;
    const label = `round ${round}, ${trouble}: ${run.phase}, ${run.failure?.reason}`;
    this.#t.true(trouble !== 'none' || run.phase === 'done', label);
    await this.#check(run, label);
  }

  async #check(run: Run, label: string): Promise<void> {
    const points = await Promise.all(this.hosts.map(({ client, name }) => client.points(name)));
    if (run.phase === 'done') this.made += 1;
    for (const all of points) this.#t.is(all.length, this.made, label);
    if (run.phase !== 'done') return;
    const last = points.map((all) => all.at(-1));
    this.#t.is(new Set(last.map((point) => point?.instant)).size, 1);
    this.#t.is(new Set(last.map((point) => point?.group?.id)).size, 1);
    const numbers = await Promise.all(this.hosts.map((host, i) => host.numbersIn(last[i] as Point)));
    this.#t.true(isOneInstant(numbers), `${label}: ${numbers.map((side) => side.at(-1)).join(', ')}`);
    this.#t.true(Math.max(...numbers.flat()) > (this.made - 1) * 10, label);
  }
}

testWith(
  ['root'],
  'two hosts, cut links and agents that end: every group point is one instant',
  async (t) => {
    t.timeout(10 * 60_000);
    const { below } = seededRandom(t);
    const scene = await Scene.make(t, ['tap-one', 'tap-two']);
    for (let round = 0; round < ROUNDS; round += 1) {
      const trouble = round < 2 ? 'none' : (TROUBLES[below(TROUBLES.length)] ?? 'none');
      await scene.run({ round, trouble, host: scene.hosts[below(2)] as Host, afterMs: below(1_500) });
    }
    t.true(scene.made >= 2);
  },
);

testWith(
  ['root', 'loop', { missing: whyNoTracking }, ...programs(...FILESYSTEM_PROGRAMS.ext4)],
  'a tap on one host, and a mounted device that is copied live on the other: one instant',
  async (t) => {
    t.timeout(10 * 60_000);
    const scene = await Scene.make(t, ['tap-one', 'live']);
    for (let round = 0; round < 3; round += 1)
      await scene.run({ round, trouble: 'none', host: scene.hosts[0] as Host, afterMs: 0 });
  },
);
