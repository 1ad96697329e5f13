/** Waiting for members, of which one may never answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Member } from './ports.js';

/** For a member to open and to release, after a failure; and to answer, past the time that it was given. */
export const GRACE_MS = 2_000;

/** Waits for all of them, whatever the first has become. @throws the first error */
export async function all<Result>(work: readonly Promise<Result>[]): Promise<Result[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

/** In reverse order. Does not reject. */
export async function releaseAll(members: readonly Member[]): Promise<void> {
  for (const member of [...members].reverse()) await inTime(member.release().catch(() => undefined));
}

/** What is given back is not waited for longer than that. */
export async function inTime(work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  const late = sleep(GRACE_MS, undefined, { signal: over.signal }).catch(() => undefined);
  await Promise.race([work, late]);
  over.abort();
}

interface Patience {
  readonly withinMs: number;
  readonly unanswered: Error;
  readonly signal: AbortSignal;
  readonly cancelled: Error;
}

/** @throws `unanswered`, or `cancelled`; then nobody waits for the work any more, and it is left to end */
export async function answerIn<Result>(
  work: Promise<Result>,
  { withinMs, unanswered, signal, cancelled }: Patience,
): Promise<Result> {
  const over = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const aborted = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unanswered), withinMs);
    const cancel = (): void => reject(cancelled);
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true, signal: over.signal });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}
