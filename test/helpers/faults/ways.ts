/** How a store ends in the middle of its work. */
import type { Fault } from './disk.js';

export interface Way {
  readonly title: string;
  readonly fault: Fault;
  /** Part of what was not synced that is there after the power came back; null: it did not go. */
  readonly power: number | null;
}

export const WAYS: readonly Way[] = [
  { title: 'killed', fault: 'crash', power: null },
  { title: 'out of power, nothing unsynced left', fault: 'crash', power: 0 },
  { title: 'out of power, half of what was not synced left', fault: 'crash', power: 0.5 },
  { title: 'with a disk that fails', fault: 'EIO', power: null },
];
