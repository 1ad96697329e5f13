/** What agents of former versions are answered; conversation.test.ts has their recorded conversations. */
import test from 'ava';
import { answerIn } from '../../../src/protocol/messages/former.js';

test('an agent of version 3 is not told of groups, wherever a point stands in an answer', (t) => {
  const group = { id: '1'.repeat(32), name: 'db', sequence: 3, memberCount: 2 };
  const point = { id: '2'.repeat(32), device: 'data', group };
  const { group: _, ...former } = point;
  t.deepEqual(answerIn(3, point), former);
  t.deepEqual(answerIn(3, { state: 'committed', point }), { state: 'committed', point: former });
  t.deepEqual(answerIn(3, { protocolVersion: 4 }), { protocolVersion: 3 });
  t.is(answerIn(4, point), point);
});
