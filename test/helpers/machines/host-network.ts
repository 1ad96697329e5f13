/**
 * A receiver and several hosts, each in a network namespace of its own, joined by a bridge at the receiver's.
 * A link can be taken down, which nobody is told of, and made slow. Gone when the test ends.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';

/** For documentation (RFC 5737). */
const NETWORK = '198.51.100';

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr.trim()}`);
}

export class HostNetwork {
  /** Namespaces. */
  readonly receiver: string;
  readonly hosts: readonly string[];
  readonly receiverAddress = `${NETWORK}.1`;

  private constructor(id: string, count: number) {
    this.receiver = `sp-${id}-r`;
    this.hosts = Array.from({ length: count }, (_, host) => `sp-${id}-${host}`);
  }

  static open(t: Pick<ExecutionContext, 'teardown'>, count: number): HostNetwork {
    const network = new HostNetwork(randomBytes(3).toString('hex'), count);
    for (const name of [network.receiver, ...network.hosts]) {
      run('ip', 'netns', 'add', name);
      t.teardown(() => void spawnSync('ip', ['netns', 'del', name]));
      run('ip', '-n', name, 'link', 'set', 'lo', 'up');
    }
    const atReceiver = (...args: string[]) => run('ip', '-n', network.receiver, ...args);
    atReceiver('link', 'add', 'hub', 'type', 'bridge');
    atReceiver('addr', 'add', `${network.receiverAddress}/24`, 'dev', 'hub');
    atReceiver('link', 'set', 'hub', 'up');
    for (const [host, name] of network.hosts.entries()) {
      const port = ['peer', 'name', portOf(host), 'netns', network.receiver];
      run('ip', 'link', 'add', 'wire', 'netns', name, 'type', 'veth', ...port);
      run('ip', '-n', name, 'addr', 'add', `${NETWORK}.${10 + host}/24`, 'dev', 'wire');
      run('ip', '-n', name, 'link', 'set', 'wire', 'up');
      atReceiver('link', 'set', portOf(host), 'master', 'hub');
      network.up(host);
    }
    return network;
  }

  down(host: number): void {
    run('ip', '-n', this.receiver, 'link', 'set', portOf(host), 'down');
  }

  up(host: number): void {
    run('ip', '-n', this.receiver, 'link', 'set', portOf(host), 'up');
  }

  /** Both ways. @param rate as `tc` takes it; null: as fast as it goes */
  slow(host: number, rate: string | null): void {
    const shape = ['tbf', 'rate', rate ?? '', 'burst', '16kb', 'latency', '1s'];
    for (const [namespace, device] of [
      [this.receiver, portOf(host)],
      [this.hosts[host] ?? '', 'wire'],
    ] as const) {
      if (rate !== null) run('tc', '-n', namespace, 'qdisc', 'replace', 'dev', device, 'root', ...shape);
      // There may be none.
      else spawnSync('tc', ['-n', namespace, 'qdisc', 'del', 'dev', device, 'root']);
    }
  }
}

function portOf(host: number): string {
  return `port${host}`;
}

/** @returns null if there is one, else why not */
export function whyNoHostNetwork(): string | null {
  const made: (() => unknown)[] = [];
  try {
    const network = HostNetwork.open({ teardown: (undo) => void made.push(undo) }, 1);
    network.slow(0, '1mbit');
    return null;
  } catch (error) {
    return `no bridge between network namespaces: ${(error as Error).message}`;
  } finally {
    for (const undo of made.reverse()) undo();
  }
}
