import test from 'ava';
import {
  type BlockFacts,
  type ImageFacts,
  judgeBlock,
  judgeImage,
  judgePresence,
  whyUnprovenBlock,
  whyUnprovenImage,
  writtenPast,
} from '../../../src/domain/device/instant-proof.js';

const IMAGE: ImageFacts = { key: 'a', sizeBytes: 4096, times: '1:1', isOpenForWriting: false, doubt: null };
const BLOCK: BlockFacts = {
  ...{ key: '8:1:5', sizeBytes: 4096, written: 80, doubt: null },
  below: [{ name: '/dev/sda', past: '3' }],
};
const image = (after: Partial<ImageFacts>, before: Partial<ImageFacts> = {}) =>
  judgeImage({ ...IMAGE, ...before }, { ...IMAGE, ...before, ...after });
const block = (after: Partial<BlockFacts>, before: Partial<BlockFacts> = {}) =>
  judgeBlock({ ...BLOCK, ...before }, { ...BLOCK, ...before, ...after });

test('what stood: every fact is there, and the same', (t) => {
  t.deepEqual(image({}), { is: 'stood' });
  t.deepEqual(block({}), { is: 'stood' });
});

test('a source that is gone, another or shorter is gone for those who read on', (t) => {
  t.like(judgeImage(IMAGE, null), { is: 'changed', isGone: true, reason: 'was removed while it was read' });
  t.like(judgeBlock(BLOCK, null), { is: 'changed', isGone: true });
  t.like(image({ key: 'b' }), { is: 'changed', isGone: true });
  t.like(block({ key: '8:1:6' }), { is: 'changed', isGone: true });
  t.like(block({ sizeBytes: 0 }), {
    is: 'changed',
    isGone: true,
    reason: 'is gone: its size went from 4096 bytes to 0',
  });
  for (const judged of [image({ sizeBytes: 512 }), block({ sizeBytes: 512 })]) {
    t.deepEqual(judged, {
      ...{ is: 'changed', isGone: true },
      reason: 'shrank from 4096 to 512 bytes while it was read',
    });
  }
  t.like(image({ sizeBytes: 8192 }), { is: 'changed', isGone: false });
  t.is(judgePresence('image', IMAGE, { key: 'a', sizeBytes: 4096 }), null);
});

test('a write that shows is a change, whatever else is in doubt', (t) => {
  t.like(image({ times: '2:2' }, { doubt: 'x' }), { is: 'changed', isGone: false });
  t.like(image({ isOpenForWriting: true }, { doubt: 'x' }), { is: 'changed', isGone: false });
  t.like(block({ written: 81 }, { doubt: 'x' }), { is: 'changed', isGone: false });
});

test('what no fact proves is unproven, never stood', (t) => {
  const doubts = [
    image({}, { doubt: 'it lies on FUSE' }),
    image({}, { isOpenForWriting: null }),
    image({ isOpenForWriting: null }),
    block({}, { doubt: 'others can write to it' }),
    block({}, { written: null }),
    block({ written: null }),
    block({}, { below: [{ name: '/dev/sda', past: null }] }),
    block({ below: [{ name: '/dev/sda', past: null }] }),
    block({ below: [{ name: '/dev/sda', past: '4' }] }),
    block({ below: [{ name: '/dev/sdb', past: '3' }] }),
    block({ below: [] }),
  ];
  for (const verdict of doubts) t.is(verdict.is, 'unproven');
  t.is(whyUnprovenImage(IMAGE), null);
  t.is(whyUnprovenBlock(BLOCK), null);
});

test('what was written past a device is its own less what lies on it, and unknown while somebody writes', (t) => {
  t.is(writtenPast(10, [], 10), 10);
  t.is(writtenPast(10, [3, 4], 10), 3);
  t.is(writtenPast(10, [3, 4], 11), null);
  t.is(writtenPast(10, [3, null], 10), null);
  t.is(writtenPast(null, [], null), null);
  // Arrays write more below than above, or less: what counts is that the rest stays.
  t.is(writtenPast(10, [30], 10), -20);
});
