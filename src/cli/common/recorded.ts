/** What a command does to a receiver's directory by itself, with its entries in the audit log. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { AuditEvent } from '../../receiver/audit/entry.js';

/**
 * The work is done only if its beginning could be recorded.
 * @param done what the entry of a good end says besides
 */
export async function recorded<T>(
  dir: string,
  event: Omit<AuditEvent, 'who' | 'result' | 'of'>,
  work: () => Promise<T>,
  done?: (result: T) => Partial<AuditEvent>,
): Promise<T> {
  const { AuditLog } = await import('../../receiver/audit/log.js');
  const log = new AuditLog({ dir });
  try {
    return await log.act({ who: 'operator', ...event }, work, done);
  } finally {
    await log.close();
  }
}

/** As `recorded`, where a receiver was made of the directory; a mere store has no audit log. */
export async function recordedIfReceiver<T>(
  dir: string,
  event: Omit<AuditEvent, 'who' | 'result' | 'of'>,
  work: () => Promise<T>,
  done?: (result: T) => Partial<AuditEvent>,
): Promise<T> {
  return hasReceiver(dir) ? recorded(dir, event, work, done) : work();
}

export function hasReceiver(dir: string): boolean {
  return existsSync(join(dir, 'receiver', 'receiver.json'));
}
