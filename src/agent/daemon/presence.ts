/**
 * Whether a device is there. A path on a file system that does not answer counts as missing, and is asked for
 * once at a time: questions that hang would use up the threads that read files.
 */
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const ANSWER_MS = 5_000;

/** @param look for tests */
export function presenceOf(
  look: (path: string) => Promise<unknown> = stat,
  answerMs = ANSWER_MS,
): (path: string) => Promise<boolean> {
  const asked = new Set<string>();
  return async (path) => {
    if (asked.has(path)) return false;
    asked.add(path);
    const answer = look(path)
      .then(
        () => true,
        () => false,
      )
      .finally(() => asked.delete(path));
    const over = new AbortController();
    const late = sleep(answerMs, false, { signal: over.signal }).catch(() => false);
    return Promise.race([answer, late]).finally(() => over.abort());
  };
}
