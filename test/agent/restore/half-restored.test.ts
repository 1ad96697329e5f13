/**
 * What a restore has not ended on is not backed up, unless that is asked for; and the next restore ends it,
 * or another one replaces it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import { runCompare } from '../../../src/agent/compare/compare.js';
import { runRestore } from '../../../src/agent/restore/restore.js';
import { inspectDevice } from '../../../src/capture/choice/inspect.js';
import type { Snapshot, SnapshotProvider } from '../../../src/capture/ports.js';
import { offlineProvider } from '../../../src/capture/providers/offline/offline.js';
import { decodeMark, encodeMark, MARK_BYTES } from '../../../src/devices/facts/half-restored.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { native } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { refused } from '../../helpers/refused.js';
import { BackupWorld, BLOCK, faultyReceiver } from '../../helpers/worlds/backup.js';

const BLOCKS = 200;
const ALL = Array.from({ length: BLOCKS }, (_, index) => index);

/** Two points, and an image whose restore to the first one failed half-way. */
async function halfRestored(t: ExecutionContext) {
  const made = await BackupWorld.make(t);
  await made.makeImage(BLOCKS * BLOCK, ALL);
  const first = { ...(await made.backup()), content: await readFile(made.image) };
  await made.change(1, ALL);
  const second = { ...(await made.backup()), content: await readFile(made.image) };
  const restore = (point = first.point, receiver: ReceiverPort = made.receiver) =>
    runRestore({ receiver, point, target: made.image, stateDirectory: made.stateDirectory, overwrite: true });
  await refused(t, restore(first.point, failing(made.receiver, 3)), 'store-damaged');
  const content = await readFile(made.image);
  t.false(content.equals(first.content));
  t.false(content.equals(second.content));
  return { made, first, second, restore };
}

/** Its answer to so many requests for blocks fails. */
function failing(receiver: ReceiverPort, at: number): ReceiverPort {
  let count = 0;
  return faultyReceiver(receiver, (method) => {
    if (method !== 'blocks') return null;
    count += 1;
    return count === at
      ? { before: new StillpointError('store-damaged', { thing: 'pack', reason: 'lost' }) }
      : null;
  });
}

test('a half restored image is refused, and shown; the same restore goes on with it', async (t) => {
  const { made, first, restore } = await halfRestored(t);
  const error = await refused(
    t,
    made.backup(),
    'half-restored',
    /to point disk1@1 \([0-9a-f]{8}\), begun 20.*not finished/,
  );
  t.is(error.thing, made.image);
  t.is((await made.points()).length, 2);
  t.is((await inspectDevice(made.image, null)).halfRestored?.point?.id, first.point.id);

  const result = await restore();
  t.true(first.content.equals(await readFile(made.image)));
  const { writtenBytes } = result;
  t.true(writtenBytes < BLOCKS * BLOCK, `${writtenBytes} bytes: what is there is not fetched again`);
  t.is((await inspectDevice(made.image, null)).halfRestored, null);
  const { point } = await made.backup();
  t.is(point.sequence, 3);
  t.is(point.root, first.point.root);
});

test('another point may be restored instead, also after another failure', async (t) => {
  const { made, second, restore } = await halfRestored(t);
  await refused(t, restore(second.point, failing(made.receiver, 2)), 'store-damaged');
  const mark = decodeMark(await readFile(made.image));
  t.is(mark?.point?.id, second.point.id);
  await refused(t, made.backup(), 'half-restored', /to point disk1@2/);
  await restore(second.point);
  t.true(second.content.equals(await readFile(made.image)));
  t.is((await made.backup()).point.root, second.point.root);
});

test('a comparison says so, and compares', async (t) => {
  const { made, first } = await halfRestored(t);
  const { receiver, image: path, stateDirectory } = made;
  const result = await runCompare({ receiver, point: first.point, path, stateDirectory });
  t.is(result.warnings.length, 1);
  t.regex(result.warnings[0] ?? '', /disk\.img: it is half restored: to point disk1@1/);
  t.true(result.differing.has(0));
});

test('accepted, it is backed up as it is', async (t) => {
  const { made } = await halfRestored(t);
  const content = await readFile(made.image);
  const { point } = await made.backup({ acceptHalfRestored: true });
  t.true(content.equals(await made.contents(point)));
});

test('a target that does not hold what was written to it is marked again', async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(BLOCKS * BLOCK, ALL);
  const { point } = await made.backup();
  await made.change(1, [0, 9]);
  const { createRestoreWriter } = native;
  t.teardown(() => Object.assign(native, { createRestoreWriter }));
  native.createRestoreWriter = (device, tree) => {
    const writer = createRestoreWriter.call(native, device, tree);
    Object.defineProperty(writer, 'verify', { value: async () => 9 });
    return writer;
  };
  const { receiver, image: target, stateDirectory } = made;
  const restoring = runRestore({ receiver, point, target, stateDirectory, overwrite: true, verify: true });
  await refused(t, restoring, 'bad-digest', /block 9 .* reads back differently/);
  t.is(decodeMark(await readFile(target))?.point?.id, point.id);
});

/** A view of the image of which only these blocks can be read, as a tracker gives it. */
function tracked(ranges: [number, number][], sample: number[]): SnapshotProvider {
  return {
    name: 'test',
    hold: async (path, options) => {
      const snapshot = await offlineProvider.hold(path, options);
      const { device } = snapshot;
      const readAny = device.read.bind(device);
      const read = async (byteOffset: number, byteLength: number) => {
        const blockIndex = Math.floor(byteOffset / BLOCK);
        const isHeld =
          sample.includes(blockIndex) || ranges.some(([from, to]) => from <= blockIndex && blockIndex < to);
        if (!isHeld) throw new Error(`block ${blockIndex} is read, and not held`);
        return readAny(byteOffset, byteLength);
      };
      Object.defineProperty(device, 'read', { value: read });
      const tracking: Snapshot['tracking'] = {
        adopt: async () => undefined,
        changes: { ranges, sample },
        reason: 'the map belongs to the last point',
        knows: () => true,
        committed: async () => undefined,
      };
      return { ...snapshot, tracking };
    },
  };
}

test('under a tracker the mark is looked for where the first block can be read', async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(BLOCKS * BLOCK, ALL);
  const { point } = await made.backup();
  const content = await readFile(made.image);
  await writeFile(made.image, Buffer.concat([encodeMark(point, new Date()), content.subarray(MARK_BYTES)]));
  await refused(t, made.backup({ provider: tracked([[0, 2]], [7]) }), 'half-restored');
  await refused(t, made.backup({ provider: tracked([[3, 4]], [0, 7]) }), 'half-restored');
  // The first block has not changed, says the tracker: it is that of the last point.
  const { point: next } = await made.backup({ provider: tracked([[3, 4]], [7]) });
  t.is(next.root, point.root);
});
