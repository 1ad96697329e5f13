/** The end of the process that takes a cut: it comes a moment after its last word, or later. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LiveCopy } from '../../../native/index.js';

/** It ends when its last system call does, which a disk may hold up. */
const END_MS = 30_000;
const PAUSE_MS = 5;

/** @returns false if it is still there after a while. */
export async function cutHasEnded(copy: LiveCopy, withinMs: number = END_MS): Promise<boolean> {
  for (const endMs = performance.now() + withinMs; performance.now() < endMs; await sleep(PAUSE_MS))
    if (copy.cutHasEnded()) return true;
  return false;
}
