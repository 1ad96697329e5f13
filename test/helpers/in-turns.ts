/** Tests of a file all begin at once. Where each has a receiver, none of these answers in time. */
import type { ExecutionContext, TestFn } from 'ava';

/** What conformance suites need of `test`. */
export interface Tests {
  (title: string, body: (t: ExecutionContext) => Promise<void>): void;
  readonly after: TestFn['after'];
}

/** The same tests, but no more than so many of them at once. */
export function inTurns(test: Tests, atOnce: number): Tests {
  const waiting: (() => void)[] = [];
  let free = atOnce;
  const take = async () => {
    if (free === 0) return new Promise<void>((resolve) => waiting.push(resolve));
    free -= 1;
  };
  const give = () => {
    const next = waiting.shift();
    if (next === undefined) free += 1;
    else next();
  };
  const declare = (title: string, body: (t: ExecutionContext) => Promise<void>) =>
    test(title, async (t) => {
      await take();
      t.teardown(give);
      await body(t);
    });
  return Object.assign(declare, { after: test.after });
}
