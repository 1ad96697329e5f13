import test from 'ava';
import { PATCH_BREAK_EVEN_BYTES_PER_SECOND, PatchPolicy } from '../../../src/domain/session/patching.js';

const SLOW = PATCH_BREAK_EVEN_BYTES_PER_SECOND / 100;
const FAST = PATCH_BREAK_EVEN_BYTES_PER_SECOND * 3;

test('always and never do not look at the link or at what it brings', (t) => {
  for (const [mode, expected] of [
    ['always', true],
    ['never', false],
  ] as const) {
    const policy = new PatchPolicy(mode);
    for (const link of [undefined, null, SLOW, FAST]) {
      t.is(policy.shouldAsk(link), expected);
      policy.observe(1000, 0);
    }
  }
});

test('auto asks on slow links and on those whose speed is not known yet, not without a link', (t) => {
  t.true(new PatchPolicy('auto').shouldAsk(SLOW));
  t.true(new PatchPolicy('auto').shouldAsk(null));
  t.false(new PatchPolicy('auto').shouldAsk(FAST));
  t.false(new PatchPolicy('auto').shouldAsk(undefined));
});

test('the less patches spare, the slower must the link be', (t) => {
  const policy = new PatchPolicy('auto');
  const link = PATCH_BREAK_EVEN_BYTES_PER_SECOND / 5;
  t.true(policy.shouldAsk(link));
  for (let chunk = 0; chunk < 30; chunk += 1) policy.observe(1000, 100);
  t.false(policy.shouldAsk(link));
  t.true(policy.shouldAsk(link / 4));
});

test('where patches spare nothing the questions stop, and are tried again now and then', (t) => {
  const policy = new PatchPolicy('auto');
  const asked: number[] = [];
  for (let chunk = 0; chunk < 400; chunk += 1) {
    if (!policy.shouldAsk(SLOW)) continue;
    asked.push(chunk);
    policy.observe(1000, 0);
  }
  t.deepEqual(asked.slice(0, 5), [0, 1, 2, 3, 4]);
  t.true(asked.length > 20 && asked.length < 40, String(asked));
  t.true((asked.at(-1) ?? 0) > 360);
});

test('when they spare something again, all are asked about', (t) => {
  const policy = new PatchPolicy('auto');
  for (let chunk = 0; chunk < 100; chunk += 1) {
    if (policy.shouldAsk(SLOW)) policy.observe(1000, 0);
  }
  let asked = 0;
  for (let chunk = 0; chunk < 100; chunk += 1) {
    if (!policy.shouldAsk(SLOW)) continue;
    asked += 1;
    policy.observe(1000, 700);
  }
  t.true(asked > 60, String(asked));
});

test('on a link that is too fast nothing is tried, however long', (t) => {
  const policy = new PatchPolicy('auto');
  for (let chunk = 0; chunk < 200; chunk += 1) t.false(policy.shouldAsk(FAST));
});
