/** Backs up several devices with one instant. */
import type { GroupBackupOptions, GroupBackupResult } from './options.js';

export async function runGroupBackup({ name }: GroupBackupOptions): Promise<GroupBackupResult> {
  throw new Error(`groups are not there yet: ${name}`);
}
