import test from 'ava';
import { toldAgainAfter } from '../../../src/agent/common/told-again.js';

test('the same text is told again after a pause, another one at once', (t) => {
  const told: string[] = [];
  let nowMs = 5;
  const tell = toldAgainAfter(
    60,
    (text) => told.push(`${nowMs} ${text}`),
    () => nowMs,
  );
  for (const [atMs, text] of [
    [5, 'a'],
    [6, 'a'],
    [64, 'a'],
    [65, 'a'],
    [66, 'b'],
    [67, 'a'],
    [68, 'a'],
  ] as const) {
    nowMs = atMs;
    tell(text);
  }
  t.deepEqual(told, ['5 a', '65 a', '66 b', '67 a']);
});
