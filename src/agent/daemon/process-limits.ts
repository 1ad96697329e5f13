/** What the agent's process may take from the machine, as its configuration says. */
import { execFile } from 'node:child_process';
import { getPriority, setPriority } from 'node:os';
import { promisify } from 'node:util';
import type { Logger } from 'pino';
import type { AgentSettings } from '../../config/schema/agent.js';

const IO_CLASSES = { 'best-effort': '2', idle: '3' } as const;

/** Never rejects: a backup that takes more than it should is better than none. */
export async function limitProcess(limits: AgentSettings['limits'], log: Logger): Promise<void> {
  try {
    if (getPriority() !== limits['cpu-nice']) setPriority(limits['cpu-nice']);
  } catch (error) {
    log.warn({ reason: (error as Error).message }, 'the niceness could not be set');
  }
  const ioClass = limits['io-class'];
  if (ioClass === null) return;
  // All threads: those that read the devices have been started before.
  await promisify(execFile)('ionice', ['-c', IO_CLASSES[ioClass], '-P', String(process.pid)]).catch(
    (error: Error) => log.warn({ reason: error.message }, 'the I/O class could not be set'),
  );
}
