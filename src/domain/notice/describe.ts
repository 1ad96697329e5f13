/** Times and sizes in the texts of notifications. Pure. */
import { GiB, MiB } from '../base/limits.js';

/** To the minute, UTC. */
export function describeTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

export function describeBytes(bytes: number): string {
  return bytes >= 10 * GiB ? `${Math.floor(bytes / GiB)} GiB` : `${Math.floor(bytes / MiB)} MiB`;
}
