/** Tests of a file all begin at once. Where each has a receiver, none of these answers in time. */
import type { ExecutionContext, TestFn } from 'ava';
import { Slots } from '../../src/agent/common/slots.js';

/** Each with a receiver over TLS in the test's process. */
export const RECEIVERS_AT_ONCE = 6;

/** What conformance suites need of `test`. */
export interface Tests {
  (title: string, body: (t: ExecutionContext) => Promise<void>): void;
  readonly after: TestFn['after'];
}

/** The same tests, but no more than so many of them at once. */
export function inTurns(test: Tests, atOnce: number): Tests {
  const slots = new Slots(atOnce);
  const declare = (title: string, body: (t: ExecutionContext) => Promise<void>) =>
    test(title, async (t) => {
      t.teardown(await slots.take(new AbortController().signal));
      await body(t);
    });
  return Object.assign(declare, { after: test.after });
}
