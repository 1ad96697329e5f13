/**
 * A group over several hosts as its operator has it: a receiver, an agent and taps for each host, all in
 * processes of their own, the agents and the receiver in network namespaces of their own. A program beside
 * them writes numbers to all devices in turn.
 */
import type { ChildProcess } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { endAgent, logged, order, startAgent, startOrder, type WaitingAgent } from '../machines/agent.js';
import { HostNetwork } from '../machines/host-network.js';
import { withinNamespace } from '../machines/namespaces.js';
import { enroll, killReceiver, type Receiver, serve } from '../machines/receiver.js';
import {
  EXIT_OK,
  lastResult,
  type Machine,
  makeMachine,
  type Outcome,
  runExpecting,
  runHere,
} from '../machines/stillpoint.js';
import { tapImage } from './in-turn.js';
import { NumberRing } from './number-ring.js';

const GROUP = 'db';
const DEVICE_BYTES = 8 * MiB;
/** What an agent logs when it asks for orders, of a receiver that has not answered before. */
const CONNECTED = 'waiting for orders';
/** An agent that has lost its connection may need longer to take its order. */
const SAYS_MS = 8_000;

/** Its devices, by agent. */
export type HostPlan = readonly { readonly agent: string; readonly devices: readonly string[] }[];

interface Host {
  readonly name: string;
  readonly machine: Machine;
  readonly tapProcessIds: readonly number[];
  agent: WaitingAgent | null;
}

/** `receiver group backup`, and what it has said so far. */
export class GroupCommand {
  readonly end: Promise<Outcome>;
  readonly #child: ChildProcess;
  #said = '';
  #isOver = false;

  constructor(receiver: Receiver) {
    const { child, end } = startOrder(receiver, 'group', 'backup', GROUP, '--wait', '30');
    this.#child = child;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#said += chunk.toString('utf8');
    });
    this.end = end.finally(() => {
      this.#isOver = true;
    });
  }

  /** @returns false: it has ended, or takes too long to stop others for it */
  async says(...texts: readonly string[]): Promise<boolean> {
    const isSaid = () => texts.every((text) => this.#said.includes(`${text}\n`));
    const endMs = performance.now() + SAYS_MS;
    while (!isSaid() && !this.#isOver && performance.now() < endMs) await sleep(5);
    return isSaid();
  }

  /** After that time it is told to give up. @returns null: it was */
  async within(ms: number): Promise<Outcome | null> {
    const over = new AbortController();
    const late = sleep(ms, null, { signal: over.signal }).catch(() => null);
    const ended = await Promise.race([this.end, late]);
    over.abort();
    if (ended !== null) return ended;
    this.#child.kill('SIGINT');
    await this.end;
    return null;
  }
}

export class HostsScene {
  readonly ring: NumberRing;
  readonly network: HostNetwork;
  readonly hosts: readonly Host[];
  readonly #t: ExecutionContext;
  readonly #plan: HostPlan;
  readonly #receiver: Receiver;
  readonly #known = new Set<string>();
  #missing: 'fail' | 'leave-out' | null = null;
  /** When the receiver was killed, by host. */
  #logLengths: readonly number[] = [];

  private constructor(
    t: ExecutionContext,
    plan: HostPlan,
    world: Pick<HostsScene, 'ring' | 'network' | 'hosts'> & { readonly receiver: Receiver },
  ) {
    this.#t = t;
    this.#plan = plan;
    [this.ring, this.network, this.hosts] = [world.ring, world.network, world.hosts];
    this.#receiver = world.receiver;
  }

  /** The program has begun to write. */
  static async make(t: ExecutionContext, plan: HostPlan): Promise<HostsScene> {
    const network = HostNetwork.open(t, plan.length);
    const machine = { ...(await makeMachine(t, 'receiver')), namespace: network.receiver };
    const store = join(machine.directory, 'store');
    await runExpecting(t, machine, EXIT_OK, 'receiver', 'init', store);
    const url = `https://${network.receiverAddress}:8440`;
    const receiver: Receiver = { machine, store, url, process: null, log: '' };
    await serve(receiver);
    t.teardown(() => killReceiver(receiver));
    const hosts: Host[] = [];
    const clients = new Map<string, Awaited<ReturnType<typeof tapImage>>['client']>();
    for (const [at, { agent: name, devices }] of plan.entries()) {
      const home = { ...(await makeMachine(t, name)), namespace: network.hosts[at] ?? '' };
      await enroll(t, receiver, home, name);
      const hook = await makeHook(home);
      const tapProcessIds: number[] = [];
      for (const device of devices) {
        const { image, client, processId } = await tapImage(t, home.stateDirectory, device, DEVICE_BYTES);
        clients.set(`${name}/${device}`, client);
        tapProcessIds.push(processId);
        const add = ['agent', 'add', image, '--name', device, '--provider', 'tap', '--hook', hook];
        await runExpecting(t, home, EXIT_OK, ...add);
      }
      hosts.push({ name, machine: home, tapProcessIds, agent: null });
    }
    // Of the first of all hosts, then of the second: the next write is on another host if it can be.
    const places = membersOf(plan).flatMap((member) => clients.get(member) ?? []);
    const ring = new NumberRing(places);
    const scene = new HostsScene(t, plan, { ring, network, hosts, receiver });
    t.teardown(() => scene.calm());
    for (const host of hosts) await scene.startAgent(host);
    const running = ring.run();
    t.teardown(async () => {
      ring.stop();
      await running;
    });
    return scene;
  }

  /** @param missing what becomes of the group point if a host can't take part */
  async set(missing: 'fail' | 'leave-out'): Promise<void> {
    if (this.#missing === missing) return;
    this.#missing = missing;
    const members = membersOf(this.#plan);
    await order(this.#t, this.#receiver, EXIT_OK, 'group', 'set', GROUP, ...members, '--missing', missing);
  }

  begin(): GroupCommand {
    return new GroupCommand(this.#receiver);
  }

  async startAgent(host: Host): Promise<void> {
    const prefix = withinNamespace(host.machine.namespace ?? '');
    host.agent = startAgent(this.#t, host.machine, ['run'], prefix);
    await logged(host.agent, CONNECTED);
  }

  async killAgent(host: Host): Promise<void> {
    const { agent } = host;
    host.agent = null;
    if (agent !== null) await endAgent(agent, 'SIGKILL');
  }

  async killReceiver(): Promise<void> {
    this.#logLengths = this.hosts.map(({ agent }) => agent?.log.length ?? 0);
    await killReceiver(this.#receiver);
  }

  signalAgent({ agent }: Host, signal: 'SIGSTOP' | 'SIGCONT'): void {
    agent?.process.kill(signal);
  }

  signalReceiver(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#receiver.process?.kill(signal);
  }

  signalTaps({ tapProcessIds }: Host, signal: 'SIGSTOP' | 'SIGCONT'): void {
    for (const id of tapProcessIds) process.kill(id, signal);
  }

  /** Its programs can't come to rest. */
  async holdHook({ machine }: Host): Promise<void> {
    await writeFile(holdFile(machine), '');
  }

  async releaseHook({ machine }: Host): Promise<void> {
    await rm(holdFile(machine), { force: true });
  }

  /** Whatever was stopped goes on, on fast links. */
  async calm(): Promise<void> {
    this.signalReceiver('SIGCONT');
    for (const [at, host] of this.hosts.entries()) {
      await this.releaseHook(host);
      this.network.up(at);
      this.network.slow(at, null);
      this.signalAgent(host, 'SIGCONT');
      this.signalTaps(host, 'SIGCONT');
    }
  }

  /** All agents ask for orders then. */
  async startWhatWasKilled(): Promise<void> {
    const isReceiverNew = this.#receiver.process === null;
    if (isReceiverNew) await serve(this.#receiver);
    for (const [at, host] of this.hosts.entries()) {
      if (host.agent === null) await this.startAgent(host);
      else if (isReceiverNew) await logged(host.agent, CONNECTED, this.#logLengths[at]);
    }
  }

  /**
   * All that is listed is whole, and what has come since the last check is of one moment.
   * @returns the last number of each group point that has come
   */
  async check(what: string): Promise<number[]> {
    const { points: listed } = lastResult<{ points: Point[] }>(await this.#here('points', '--json'));
    const byGroup = new Map<string, Point[]>();
    for (const point of listed) {
      const id = point.group?.id ?? 'none';
      byGroup.set(id, [...(byGroup.get(id) ?? []), point]);
    }
    this.#t.false(byGroup.has('none'), `${what}: a point is of no group point`);
    const last: number[] = [];
    for (const [id, of] of byGroup) {
      this.#checkWhole(of, what);
      if (this.#known.has(id)) continue;
      this.#known.add(id);
      last.push(await this.#checkOneMoment(of, what));
    }
    return last;
  }

  /** In the receiver's directory, in the test's own process. */
  async #here(...args: string[]): Promise<string> {
    const { machine, store } = this.#receiver;
    const { code, stdout, stderr } = await runHere(machine, ...args, '--store', store);
    if (code !== EXIT_OK)
      throw new Error(`stillpoint ${args.join(' ')}: exit code ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  #checkWhole(of: readonly Point[], what: string): void {
    const [group] = of.map((point) => point.group);
    const names = of.map(({ agent, device }) => `${agent}/${device}`);
    const all = [...names, ...(group?.missing ?? [])].sort();
    const label = `${what}: ${GROUP}@${group?.sequence} is ${names.join(', ')}`;
    this.#t.is(of.length, group?.memberCount ?? 0, label);
    this.#t.deepEqual(all, [...membersOf(this.#plan)].sort(), label);
    this.#t.is(new Set(of.map(({ instant }) => instant)).size, 1, label);
  }

  async #checkOneMoment(of: readonly Point[], what: string): Promise<number> {
    const { machine } = this.#receiver;
    const members = membersOf(this.#plan);
    const name = `${GROUP}@${of[0]?.group?.sequence}`;
    const images = new Map<number, string>();
    for (const { agent, device } of of) {
      const member = `${agent}/${device}`;
      images.set(members.indexOf(member), join(machine.directory, `${name}-${agent}-${device}`));
    }
    const targets = [...images].map(([at, path]) => `${members[at]}=${path}`);
    await this.#here('restore', name, ...targets);
    const last = await this.ring.lastIn(images);
    for (const path of images.values()) await rm(path);
    this.#t.is(typeof last, 'number', `${what}: ${name} is not of one moment: ${last}`);
    return typeof last === 'number' ? last : 0;
  }
}

function holdFile({ directory }: Machine): string {
  return join(directory, 'hold-hook');
}

/** One for all devices of the machine. */
async function makeHook(machine: Machine): Promise<string> {
  const path = join(machine.directory, 'hook');
  const text = `#!/bin/sh\nwhile [ -e '${holdFile(machine)}' ]; do sleep 0.05; done\necho ready\nread -r _\n`;
  await writeFile(path, text, { mode: 0o755 });
  return path;
}

function membersOf(plan: HostPlan): string[] {
  const longest = Math.max(...plan.map(({ devices }) => devices.length));
  return Array.from({ length: longest }, (_, at) =>
    plan.flatMap(({ agent, devices }) => (devices[at] === undefined ? [] : `${agent}/${devices[at]}`)),
  ).flat();
}
