import test from 'ava';
import { whyMarksMiss } from '../../../src/domain/live/trust.js';

test('each counter that has moved is a reason of its own, and none is none', (t) => {
  const since = { passedThrough: 3, notNoted: 4, queueMisses: 5 };
  t.is(whyMarksMiss(since, { ...since }), null);
  const reasons = (Object.keys(since) as (keyof typeof since)[]).map((key) =>
    whyMarksMiss(since, { ...since, [key]: since[key] + 1 }),
  );
  t.is(new Set(reasons).size, 3);
  for (const reason of reasons) t.regex(reason ?? '', /^[a-z].*[^.]$/);
  // Another tracker, whose counters begin anew.
  t.not(whyMarksMiss(since, { ...since, passedThrough: 0 }), null);
});
