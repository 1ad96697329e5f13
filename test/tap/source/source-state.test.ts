import { link, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { anchorOf, placeOfSource, readSource } from '../../../src/tap/source/source.js';
import { type SourceReport, sourceProblem } from '../../../src/tap/source/source-state.js';
import { attachLoop, attachLoopAgain, detachLoop } from '../../helpers/disks/loop-device.js';
import { testWith } from '../../helpers/requirements.js';
import { makeTapPlace } from '../../helpers/worlds/taps.js';

const TAP = { name: 'vm', sizeBytes: 1000 };
const problem = (changes: Partial<SourceReport>) =>
  sourceProblem(TAP, { sizeBytes: 1000, leastBytes: 1000, place: 'same', ...changes });

test('a source that is as it was, or of which nothing is told, is no problem', (t) => {
  t.is(problem({}), null);
  t.is(sourceProblem(TAP, undefined), null);
  t.is(sourceProblem({ name: 'empty', sizeBytes: 0 }, { sizeBytes: 0, leastBytes: 0, place: 'same' }), null);
});

test('what is not there any more can be no point; what it grew is said', (t) => {
  for (const [changes, refused, reason] of [
    [{ sizeBytes: 400, leastBytes: 400 }, true, /^it shrank from 1000 to 400 bytes under its tap$/],
    [{ sizeBytes: 0, leastBytes: 0 }, true, /the device is gone/],
    [{ sizeBytes: 0, leastBytes: 0, place: 'missing' }, true, /the device is gone/],
    [{ place: 'missing' }, true, /removed or renamed, or its file system was unmounted/],
    [{ place: 'other' }, true, /something else is now in the place/],
    [{ leastBytes: 400, place: 'other' }, true, /something else is now in the place/],
    [{ leastBytes: 400 }, false, /cut to 400 bytes under its tap, and has grown again/],
    [{ sizeBytes: 2000, leastBytes: 400 }, false, /cut to 400 bytes/],
    [{ sizeBytes: 2000 }, false, /^it grew from 1000 to 2000 bytes under its tap/],
  ] as const) {
    const found = problem(changes);
    t.is(found?.refused, refused);
    t.regex(found?.reason ?? '', reason);
    t.regex(found?.remedy ?? '', /tap (stop|status) vm/);
  }
});

test('what a path leads to is told from what it led to', async (t) => {
  const { directory, image } = await makeTapPlace(t);
  const anchor = await anchorOf(image, await readSource(image));
  const kept = join(directory, 'kept');
  await link(image, kept);
  await truncate(image, 10);
  t.is(await placeOfSource(anchor), 'same');
  await rm(image);
  t.is(await placeOfSource(anchor), 'missing');
  await writeFile(image, 'another');
  t.is(await placeOfSource(anchor), 'other');
  await rename(kept, image);
  t.is(await placeOfSource(anchor), 'same');
});

testWith(['loop'], 'another disk at the same node is another one', async (t) => {
  const { image } = await makeTapPlace(t);
  const loop = attachLoop(t, image);
  const anchor = await anchorOf(loop, await readSource(loop));
  t.is(await placeOfSource(anchor), 'same');
  detachLoop(loop);
  attachLoopAgain(loop, image);
  t.is(await placeOfSource(anchor), 'other');
});
