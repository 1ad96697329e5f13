/**
 * Keeps the run of a group in one of its phases, by stopping processes and hooks that the phase waits for.
 * What the run says of itself tells when it is there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { GroupCommand, HostsScene } from './hosts-scene.js';

export const PHASES = ['gathering', 'resting', 'closing', 'cutting', 'sending', 'committing'] as const;

type Host = HostsScene['hosts'][number];

export interface Held {
  readonly command: GroupCommand;
  /** False: the command has ended before. */
  readonly isReached: boolean;
  /** What the phase waits for goes on. */
  readonly release: () => Promise<void> | void;
}

/** Of 256 KiB a device: some seconds. */
const SLOW = '1500kbit';
/** All are told to close at once; how far each is it does not say. */
const CLOSING_MS = 300;

/** @param victim the host that is going to be in trouble */
export async function holdIn(scene: HostsScene, phase: (typeof PHASES)[number], victim: Host): Promise<Held> {
  const others = scene.hosts.filter((host) => host !== victim);
  const [other] = others;
  if (other === undefined) throw new Error('a group over several hosts has two at least');
  const stop = (host: Host) => scene.signalAgent(host, 'SIGSTOP');
  const goOn = (host: Host) => scene.signalAgent(host, 'SIGCONT');
  switch (phase) {
    case 'gathering': {
      stop(other);
      const command = scene.begin();
      const isReached = await command.says(`${victim.name} is ready`);
      return { command, isReached, release: () => goOn(other) };
    }
    case 'resting': {
      await scene.holdHook(victim);
      const command = scene.begin();
      const isReached = await command.says(...atRest(others));
      return { command, isReached, release: () => scene.releaseHook(victim) };
    }
    case 'closing': {
      await scene.holdHook(victim);
      const command = scene.begin();
      await command.says(...atRest(others));
      // Its device can be written to: the victim must not be cut.
      stop(other);
      await scene.releaseHook(victim);
      const isReached = await command.says(...atRest([victim]));
      await sleep(CLOSING_MS);
      return { command, isReached, release: () => goOn(other) };
    }
    case 'cutting': {
      await scene.holdHook(victim);
      const command = scene.begin();
      await command.says(...atRest(others));
      scene.signalTaps(victim, 'SIGSTOP');
      await scene.releaseHook(victim);
      await command.says(...atRest([victim]));
      await sleep(CLOSING_MS);
      stop(other);
      scene.signalTaps(victim, 'SIGCONT');
      const isReached = await command.says(`${victim.name} is cut`);
      return { command, isReached, release: () => goOn(other) };
    }
    case 'sending': {
      scene.network.slow(scene.hosts.indexOf(victim), SLOW);
      const command = scene.begin();
      const isReached = await command.says(`${victim.name} is cut`);
      return { command, isReached, release: () => undefined };
    }
    case 'committing': {
      scene.network.slow(scene.hosts.indexOf(victim), SLOW);
      const command = scene.begin();
      await command.says(`${other.name} is sent`);
      stop(other);
      const isReached = await command.says(`${victim.name} is sent`);
      return { command, isReached, release: () => goOn(other) };
    }
  }
}

function atRest(hosts: readonly Host[]): string[] {
  return hosts.map(({ name }) => `${name} is at rest`);
}
