/**
 * Tests that need root, loop devices or a program: skipped with the reason in their
 * title where it is missing.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { whyNoLoopDevices } from './disks/loop-device.js';

export type Requirement =
  | 'root'
  | 'loop'
  | 'device-mapper'
  | 'network-namespaces'
  | { readonly program: string }
  /** Found out already; null: it is here. */
  | { readonly missing: string | null };

export const programs = (...names: string[]): Requirement[] => names.map((program) => ({ program }));

function isInstalled(program: string): boolean {
  return `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`
    .split(delimiter)
    .some((directory) => {
      try {
        accessSync(join(directory, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** With TUN devices to join them. */
function whyNoNetworkNamespaces(): string | null {
  for (const program of ['ip', 'nsenter', 'python3'])
    if (!isInstalled(program)) return `${program} is not installed`;
  if (!existsSync('/dev/net/tun')) return 'the kernel has no TUN devices';
  const name = `stillpoint-${process.pid}`;
  const { status, stderr } = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' });
  if (status !== 0) return `no network namespaces: ${stderr.trim()}`;
  spawnSync('ip', ['netns', 'delete', name]);
  return null;
}

/** @returns null if all of it is here, else what is missing. */
export function whatIsMissing(requirements: readonly Requirement[]): string | null {
  for (const requirement of requirements) {
    if (requirement === 'root') {
      if (process.getuid?.() !== 0) return 'not root';
    } else if (requirement === 'loop') {
      const reason = whyNoLoopDevices();
      if (reason !== null) return `no loop devices: ${reason}`;
    } else if (requirement === 'device-mapper') {
      if (!existsSync('/sys/class/misc/device-mapper')) return 'the kernel has no device mapper';
      if (!isInstalled('dmsetup')) return 'dmsetup is not installed';
    } else if (requirement === 'network-namespaces') {
      const reason = whyNoNetworkNamespaces();
      if (reason !== null) return reason;
    } else if ('missing' in requirement) {
      if (requirement.missing !== null) return requirement.missing;
    } else if (!isInstalled(requirement.program)) {
      return `${requirement.program} is not installed`;
    }
  }
  return null;
}

/** Declares a test, skipped with a printed reason if a requirement is missing. */
export function testWith(
  requirements: readonly Requirement[],
  title: string,
  implementation: (t: ExecutionContext) => Promise<void>,
): void {
  const missing = whatIsMissing(requirements);
  if (missing === null) test(title, implementation);
  else test.skip(`${title} (skipped: ${missing})`, implementation);
}
