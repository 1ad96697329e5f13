import test from 'ava';
import { type ErrorCode, StillpointError } from '../../../src/domain/base/errors.js';
import { afterFailedCommit, afterFailure, partsToScan } from '../../../src/domain/session/resume.js';

const failure = (code: ErrorCode, permanent = true) =>
  new StillpointError(code, { thing: 'it', reason: 'it failed', permanent });

test('what durable batches cover is read for the tree alone', (t) => {
  t.deepEqual(partsToScan(undefined, { durableBlockEnd: 0 }, 10), [{ ranges: undefined, isDurable: false }]);
  t.deepEqual(partsToScan(undefined, { durableBlockEnd: 4 }, 10), [
    { ranges: [[0, 4]], isDurable: true },
    { ranges: [[4, 10]], isDurable: false },
  ]);
  t.deepEqual(partsToScan(undefined, { durableBlockEnd: 99 }, 10), [{ ranges: [[0, 10]], isDurable: true }]);
  const ranges = [
    [1, 3],
    [5, 8],
    [9, 10],
  ] as const;
  t.deepEqual(partsToScan(ranges, { durableBlockEnd: 6 }, 10), [
    {
      ranges: [
        [1, 3],
        [5, 6],
      ],
      isDurable: true,
    },
    {
      ranges: [
        [6, 8],
        [9, 10],
      ],
      isDurable: false,
    },
  ]);
  t.deepEqual(partsToScan([[7, 8]], { durableBlockEnd: 6 }, 10), [{ ranges: [[7, 8]], isDurable: false }]);
});

test('a session that fails is ended where going on can’t help, and kept where it can', (t) => {
  const kept = { isOver: false, isForgotten: false, isDoubted: false };
  const over = { isOver: true, isForgotten: true, isDoubted: false };
  for (const isResumed of [false, true]) {
    t.deepEqual(afterFailure(failure('connection-lost', false), isResumed), kept);
    t.deepEqual(afterFailure(failure('store-full', true), isResumed), over);
    t.deepEqual(afterFailure(new Error('a defect'), isResumed), over);
    // What had arrived stays held, but its instant is gone.
    t.deepEqual(afterFailure(failure('device-changed', false), isResumed), { ...kept, isForgotten: true });
  }
});

test('a session that two processes sent is doubted before anything else is', (t) => {
  for (const code of [
    'root-mismatch',
    'session-closed',
    'session-unknown',
    'bad-batch',
    'base-mismatch',
  ] as const) {
    for (const permanent of [false, true]) {
      const error = failure(code, permanent);
      t.deepEqual(afterFailure(error, true), { isOver: true, isForgotten: true, isDoubted: true }, code);
      t.false(afterFailure(error, false).isDoubted, code);
    }
  }
});

test('a sealed overlay is dropped only where there is certainly no point of it', (t) => {
  for (const isResumed of [false, true]) {
    t.is(afterFailedCommit(new Error('a defect'), isResumed), 'undecided');
    t.is(afterFailedCommit(failure('connection-lost', false), isResumed), 'undecided');
    t.is(afterFailedCommit(failure('cancelled', true), isResumed), 'undecided');
    t.is(afterFailedCommit(failure('bad-batch'), isResumed), 'refused');
    t.is(afterFailedCommit(failure('group-failed'), isResumed), 'refused');
    // The receiver stops while it waits for the others.
    t.is(afterFailedCommit(failure('group-failed', false), isResumed), 'undecided');
  }
  t.is(afterFailedCommit(failure('root-mismatch'), false), 'tree-wrong');
  t.is(afterFailedCommit(failure('root-mismatch'), true), 'refused');
});
