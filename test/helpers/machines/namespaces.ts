/** Two network namespaces with a link between them and to nobody else; removed when the test ends. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';

export interface LinkedNamespaces {
  /** Prefixes of a command that runs there. */
  readonly near: readonly string[];
  readonly far: readonly string[];
  readonly nearAddress: string;
  readonly farAddress: string;
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

/**
 * Prefix of a command that runs in a network namespace. Unlike `ip netns exec` it makes no mount
 * namespace, a copy of all mounts that other tests have at the moment: their devices would stay in
 * use when they unmount them.
 */
export function withinNamespace(name: string): readonly string[] {
  return ['nsenter', `--net=/run/netns/${name}`, '--'];
}

/** Addresses are those for documentation (RFC 5737). */
export function linkedNamespaces(t: ExecutionContext): LinkedNamespaces {
  const id = randomBytes(3).toString('hex');
  const [near, far] = [`sp-${id}-n`, `sp-${id}-f`];
  const [nearAddress, farAddress] = ['198.51.100.1', '198.51.100.2'];
  for (const name of [near, far]) {
    ip('netns', 'add', name);
    t.teardown(() => void spawnSync('ip', ['netns', 'del', name]));
    ip('-n', name, 'link', 'set', 'lo', 'up');
  }
  ip('link', 'add', `v${id}n`, 'netns', near, 'type', 'veth', 'peer', 'name', `v${id}f`, 'netns', far);
  for (const [name, device, address] of [
    [near, `v${id}n`, nearAddress],
    [far, `v${id}f`, farAddress],
  ] as const) {
    ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', device);
    ip('-n', name, 'link', 'set', device, 'up');
  }
  return { near: withinNamespace(near), far: withinNamespace(far), nearAddress, farAddress };
}

/** Connections that were opened from within a namespace since it was made. */
export function connectsWithin(prefix: readonly string[]): number {
  const [program = '', ...args] = [...prefix, 'cat', '/proc/net/snmp'];
  const { stdout } = spawnSync(program, args, { encoding: 'utf8' });
  const [names = '', values = ''] = stdout.split('\n').filter((line) => line.startsWith('Tcp:'));
  return Number(values.split(' ')[names.split(' ').indexOf('ActiveOpens')]);
}
