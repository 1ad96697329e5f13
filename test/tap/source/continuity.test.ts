import { open, rename, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  continuityMark,
  type DeviceFacts,
  placeOf,
  whyDistrusted,
} from '../../../src/tap/source/continuity.js';
import {
  readDeviceFacts,
  readMapFacts,
  readStart,
  writeStart,
} from '../../../src/tap/source/continuity-facts.js';
import { readSource, readSourceIdentity } from '../../../src/tap/source/source.js';
import { attachLoop, detachLoop } from '../../helpers/disks/loop-device.js';
import { fakeTapAddon } from '../../helpers/fakes/tap.js';
import { testWith } from '../../helpers/requirements.js';
import { makeTapPlace } from '../../helpers/worlds/taps.js';

type Image = Extract<DeviceFacts, { kind: 'image' }>;
type Block = Extract<DeviceFacts, { kind: 'block' }>;

const IMAGE: Image = {
  ...{
    kind: 'image',
    bootId: 'boot-1',
    bootTimeNs: 1000n,
    inode: 7n,
    bornNs: 5n,
    sizeBytes: 4096n,
    mtimeNs: 900n,
    ctimeNs: 950n,
    doubtfulFileSystem: null,
  },
};
const BLOCK: Block = {
  ...{
    kind: 'block',
    bootId: 'boot-1',
    diskSequence: '5',
    isIdentified: true,
    isStacked: false,
    below: '7f',
  },
  sectorsWritten: { own: 80, throughDisk: 3 },
};
const RESTARTED: Block = {
  ...BLOCK,
  bootId: 'boot-2',
  diskSequence: '2',
  sectorsWritten: { own: 0, throughDisk: 0 },
};

const closed = (device: DeviceFacts) => ({ clean: true, continuity: continuityMark(device, true) });
const KILLED = { clean: false, continuity: '' };
const startOf = (device: DeviceFacts) => ({ bootId: device.bootId, place: placeOf(device) });

test('without a map there is nothing to doubt; a damaged one is not believed', (t) => {
  t.is(whyDistrusted(null, null, BLOCK), undefined);
  t.is(whyDistrusted('its checksum is wrong', startOf(BLOCK), BLOCK), 'its checksum is wrong');
});

test('after a clean stop an image must be as it was, whether the machine ran on or not', (t) => {
  const now = (changes: Partial<Image>) => whyDistrusted(closed(IMAGE), null, { ...IMAGE, ...changes });
  t.is(now({}), undefined);
  t.is(now({ bootId: 'boot-2', bootTimeNs: 5000n }), undefined);
  for (const changes of [
    { inode: 8n },
    { bornNs: 6n },
    { sizeBytes: 8192n },
    { mtimeNs: 901n },
    { ctimeNs: 951n },
  ]) {
    t.regex(now(changes) ?? '', /changed or replaced/);
  }
});

test('times that may stand still prove nothing after a stop or a restart', (t) => {
  const there: Image = { ...IMAGE, doubtfulFileSystem: 'FUSE' };
  t.is(continuityMark(there, false), '');
  t.regex(whyDistrusted(closed(there), null, there) ?? '', /lies on FUSE, whose times do not show/);
  t.regex(whyDistrusted(closed(IMAGE), null, there) ?? '', /lies on FUSE/);
  const restarted = { ...there, bootId: 'boot-2', bootTimeNs: 5000n };
  t.regex(whyDistrusted(KILLED, startOf(there), restarted) ?? '', /lies on FUSE/);
});

test('after a clean stop a block device must be attached as it was, and its counters too', (t) => {
  const now = (changes: Partial<Block>) => whyDistrusted(closed(BLOCK), null, { ...BLOCK, ...changes });
  t.is(now({}), undefined);
  for (const changes of [
    { diskSequence: '6' },
    { sectorsWritten: { own: 81, throughDisk: 3 } },
    { sectorsWritten: { own: 80, throughDisk: 4 } },
    { sectorsWritten: null },
    { below: '80' },
    { below: null },
  ]) {
    t.regex(now(changes) ?? '', /written to or attached again/);
  }
});

test('after a clean stop and a restart a block device must not have been written to', (t) => {
  const now = (changes: Partial<Block>) => whyDistrusted(closed(BLOCK), null, { ...RESTARTED, ...changes });
  t.is(now({}), undefined);
  t.regex(now({ sectorsWritten: { own: 8, throughDisk: 0 } }) ?? '', /written to after/);
  t.regex(now({ sectorsWritten: { own: 0, throughDisk: 8 } }) ?? '', /written to after/);
  t.regex(now({ sectorsWritten: null }) ?? '', /counts no writes/);
  t.regex(now({ isIdentified: false }) ?? '', /nothing tells/);
  t.regex(now({ isStacked: true }) ?? '', /devices below/);
  // Stopped by hand, and used without the tap for a while.
  const byHand = { clean: true, continuity: continuityMark(BLOCK, false) };
  t.is(whyDistrusted(byHand, null, BLOCK), undefined);
  t.regex(whyDistrusted(byHand, null, RESTARTED) ?? '', /ran without the tap/);
});

test('a mark that could not be made, or of another kind of device, is not believed', (t) => {
  const uncounted = { ...BLOCK, sectorsWritten: null };
  t.is(continuityMark(uncounted, true), '');
  t.regex(whyDistrusted(closed(uncounted), startOf(BLOCK), BLOCK) ?? '', /mark/);
  t.not(whyDistrusted(closed(BLOCK), startOf(IMAGE), IMAGE), undefined);
  t.not(whyDistrusted(closed(IMAGE), startOf(BLOCK), { ...BLOCK, bootId: '7' }), undefined);
});

test('after a kill the map counts while the machine runs on and the device stays', (t) => {
  const written = { ...IMAGE, mtimeNs: 5000n, ctimeNs: 5000n };
  t.is(whyDistrusted(KILLED, startOf(IMAGE), written), undefined);
  t.regex(whyDistrusted(KILLED, startOf(IMAGE), { ...written, inode: 8n }) ?? '', /another file/);
  t.regex(whyDistrusted(KILLED, startOf(IMAGE), { ...written, bornNs: 6n }) ?? '', /another file/);
  const unborn = { ...written, bornNs: 0n };
  t.regex(whyDistrusted(KILLED, startOf(unborn), unborn) ?? '', /may be another one/);
  t.is(whyDistrusted(KILLED, startOf(BLOCK), { ...BLOCK, sectorsWritten: null }), undefined);
  t.regex(
    whyDistrusted(KILLED, startOf(BLOCK), { ...BLOCK, diskSequence: '6' }) ?? '',
    /another file or device/,
  );
  t.regex(whyDistrusted(KILLED, null, IMAGE) ?? '', /not known when/);
  // As when its file system was rolled back: the same inode, born at the same time.
  const changedAt = (ns: bigint) => ({ ...startOf(IMAGE), changedNs: String(ns) });
  t.is(whyDistrusted(KILLED, changedAt(IMAGE.ctimeNs), written), undefined);
  t.is(whyDistrusted(KILLED, changedAt(IMAGE.ctimeNs), IMAGE), undefined);
  t.regex(whyDistrusted(KILLED, changedAt(IMAGE.ctimeNs + 1n), IMAGE) ?? '', /older copy of the file/);
});

test('after a power cut the device must not have been written to since the start of the machine', (t) => {
  const image = (changes: Partial<Image>) =>
    whyDistrusted(KILLED, startOf(IMAGE), { ...IMAGE, bootId: 'boot-2', ...changes });
  t.is(image({}), undefined);
  t.regex(image({ mtimeNs: 1000n }) ?? '', /after this machine was started/);
  t.regex(image({ ctimeNs: 1001n }) ?? '', /after this machine was started/);
  t.regex(image({ bornNs: 6n }) ?? '', /another file/);
  const block = (changes: Partial<Block>) =>
    whyDistrusted(KILLED, startOf(BLOCK), { ...RESTARTED, ...changes });
  t.is(block({}), undefined);
  t.regex(block({ sectorsWritten: { own: 1, throughDisk: 0 } }) ?? '', /written to after/);
  t.regex(block({ isIdentified: false }) ?? '', /nothing tells/);
});

test('a change of an image moves its mark, however soon it comes', async (t) => {
  const { directory, image } = await makeTapPlace(t);
  const mark = async (): Promise<string> => {
    const source = await readSource(image);
    return continuityMark(await readDeviceFacts(source, await readSourceIdentity(source)), false);
  };
  for (let round = 0; round < 20; round += 1) {
    const before = await mark();
    t.is(await mark(), before);
    const file = await open(image, 'r+');
    await file.write(Buffer.from([round]), 0, 1, 4096);
    await file.close();
    t.not(await mark(), before);
  }
  const before = await mark();
  const copy = join(directory, 'copy.img');
  await writeFile(copy, 'other');
  await rename(copy, image);
  t.not(await mark(), before);
});

test('the start of the machine is before what is written now', async (t) => {
  const { image } = await makeTapPlace(t);
  const source = await readSource(image);
  const facts = await readDeviceFacts(source, await readSourceIdentity(source));
  if (facts.kind !== 'image') return t.fail();
  t.true(facts.bootTimeNs > 0n);
  t.regex(
    whyDistrusted(KILLED, { bootId: 'another', place: placeOf(facts) }, facts) ?? '',
    /after this machine/,
  );
  await utimes(image, 1, 1);
  // The change of the times is a change itself: ctime tells.
  const later = await readDeviceFacts(source, await readSourceIdentity(source));
  t.regex(
    whyDistrusted(KILLED, { bootId: 'another', place: placeOf(facts) }, later) ?? '',
    /after this machine/,
  );
});

testWith(['root', 'loop'], 'a write to a block device, and attaching it anew, move its mark', async (t) => {
  const { image } = await makeTapPlace(t);
  const mark = async (path: string): Promise<string> => {
    const source = await readSource(path);
    return continuityMark(await readDeviceFacts(source, await readSourceIdentity(source)), false);
  };
  const device = attachLoop(t, image);
  const before = await mark(device);
  t.regex(before, /^block /);
  t.is(await mark(device), before);
  const file = await open(device, 'r+');
  await file.write(Buffer.alloc(4096, 1), 0, 4096, 0);
  await file.sync();
  await file.close();
  const after = await mark(device);
  t.not(after, before);
  const backing = await open(image, 'r+');
  await backing.write(Buffer.alloc(4096, 2), 0, 4096, 4096);
  await backing.close();
  t.not(await mark(device), after, 'its file was written to past it');
  detachLoop(device);
  t.not(await mark(attachLoop(t, image)), after);
});

test('the record of a start comes back; a damaged one is none', async (t) => {
  const { directory } = await makeTapPlace(t);
  const path = join(directory, 'started.json');
  t.is(await readStart(path), null);
  await writeStart(path, BLOCK);
  t.deepEqual(await readStart(path), startOf(BLOCK));
  await writeStart(path, IMAGE);
  t.deepEqual(await readStart(path), { ...startOf(IMAGE), changedNs: '950' });
  await writeFile(path, '{"bootId":"boot-1"}');
  t.is(await readStart(path), null);
});

test('a map file that can not be read is told as such', async (t) => {
  const { directory } = await makeTapPlace(t);
  const path = join(directory, 'map');
  const { readTapMap } = fakeTapAddon();
  t.is(await readMapFacts(readTapMap, path), null);
  await writeFile(path, 'nonsense');
  t.regex(String(await readMapFacts(readTapMap, path)), /no map file/);
});
