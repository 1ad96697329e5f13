/**
 * Whether a device is there. A path on a file system that does not answer counts as missing. It is asked for
 * by a child process, once at a time: questions that hang in this one would use up the few threads that read
 * files, and with them the agent.
 */
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const ANSWER_MS = 5_000;
/** The answer of test(1), beside which there are failures to ask. */
const NOT_THERE = 1;

async function lookByChild(path: string): Promise<void> {
  try {
    await promisify(execFile)('test', ['-e', path], { timeout: ANSWER_MS, killSignal: 'SIGKILL' });
  } catch (error) {
    const { code, killed } = error as { code?: unknown; killed?: boolean };
    // If nobody can be asked, the backup itself says what is wrong.
    if (killed === true || code === NOT_THERE) throw error;
  }
}

/** @param look rejects if the path is not there; for tests */
export function presenceOf(
  look: (path: string) => Promise<unknown> = lookByChild,
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
