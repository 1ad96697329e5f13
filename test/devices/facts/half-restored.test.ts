import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  decodeMark,
  describeHalfRestored,
  encodeMark,
  halfRestoredError,
  MARK_BYTES,
  readMark,
  readMarkOfDisk,
} from '../../../src/devices/facts/half-restored.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { native } from '../../../src/native/index.js';
import { createMemoryDevice } from '../../../src/native/testing.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { attachPartitioned } from '../../helpers/disks/partition-table.js';
import { testWith } from '../../helpers/requirements.js';
import { seededRandom } from '../../helpers/seed.js';

const POINT = makePoint({
  id: 'c0'.repeat(16),
  root: 'ab'.repeat(32),
  agent: 'a'.repeat(64),
  device: 'z'.repeat(64),
  sequence: 2 ** 40,
  geometry: { sizeBytes: 2 ** 52, blockSize: 65_536 },
});
const STARTED = new Date('2026-03-04T05:06:07.089Z');

test('a mark tells which point was being restored, and since when', (t) => {
  const bytes = encodeMark(POINT, STARTED);
  t.is(bytes.length, MARK_BYTES);
  const { id, root, agent, device, sequence } = POINT;
  t.deepEqual(decodeMark(bytes), {
    point: { id, root, agent, device, sequence, sizeBytes: 2 ** 52 },
    startedAt: '2026-03-04T05:06:07.089Z',
  });
  // Behind it, as on a device, there may be anything.
  t.deepEqual(decodeMark(Buffer.concat([bytes, Buffer.alloc(4096, 7)])), decodeMark(bytes));
  t.not(bytes.readUInt16LE(510), 0xaa55, 'it is no boot sector');
  t.true(bytes.includes('Half restored by Stillpoint'));
});

test('the format does not change unnoticed', (t) => {
  const bytes = encodeMark(makePoint({ agent: 'web1', device: 'disk1', sequence: 7 }), STARTED);
  t.is(bytes.toString('latin1', 0, 8), 'SPHALF1\0');
  t.is(bytes.readUInt32LE(8), 1);
  t.is(bytes.toString('hex', 16, 32), '7'.padStart(32, '0'));
  t.is(bytes.toString('hex', 32, 64), '7'.padStart(64, 'a'));
  t.deepEqual(
    [64, 72, 80].map((offset) => Number(bytes.readBigUInt64LE(offset))),
    [7, 1024 * 1024, STARTED.getTime()],
  );
  t.deepEqual([...bytes.subarray(88, 90)], [4, 5]);
  t.is(bytes.toString('latin1', 96, 100) + bytes.toString('latin1', 160, 165), 'web1disk1');
  t.true(native.checksum(bytes.subarray(0, 384)).equals(bytes.subarray(384, 416)));
  t.true(bytes.subarray(416).every((byte) => byte === 0));
});

test('what is no mark is none; a damaged or later one still is one', (t) => {
  t.is(decodeMark(Buffer.alloc(4096)), null);
  t.is(decodeMark(encodeMark(POINT, STARTED).subarray(0, 511)), null);
  const unknown = { point: null, startedAt: null };
  const random = seededRandom(t);
  for (let round = 0; round < 200; round += 1) {
    const bytes = encodeMark(POINT, STARTED);
    const at = random.below(416);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    t.deepEqual(decodeMark(bytes), at < 8 ? null : unknown);
  }
  const later = encodeMark(POINT, STARTED);
  later.writeUInt32LE(2, 8);
  native.checksum(later.subarray(0, 384)).copy(later, 384);
  t.deepEqual(decodeMark(later), unknown);
});

test('it is found on a device, unless that is too small, or can not be read there', async (t) => {
  const device = createMemoryDevice(100_000);
  t.teardown(() => device.close());
  t.is(await readMark(device), null);
  await device.write(0, encodeMark(POINT, STARTED));
  t.is((await readMark(device))?.point?.id, POINT.id);
  device.addBadRange(0, 512);
  t.is(await readMark(device), null);
  t.is(await readMark({ sizeBytes: 511, read: () => t.fail() as never }), null);
});

test('it is told in words', (t) => {
  const mark = decodeMark(encodeMark(makePoint({ id: 'c0'.repeat(16) }), STARTED));
  if (mark === null) return t.fail();
  t.is(
    describeHalfRestored(mark),
    'it is half restored: to point disk1@1 (c0c0c0c0), begun 2026-03-04T05:06:07.089Z and not finished',
  );
  t.regex(describeHalfRestored({ point: null, startedAt: null }), /does not tell from which point/);
  const error = halfRestoredError('/dev/sdb', mark);
  t.is(error.code, 'half-restored');
  t.true(error.permanent);
  t.regex(
    error.message,
    /^\/dev\/sdb: it is half restored: .* Run the restore again: .*--accept-half-restored\.$/,
  );
});

testWith(['root', 'loop'], 'the mark of a whole disk goes for its partitions', async (t) => {
  const path = join(await temporaryDirectory(t, 'half-restored'), 'disk');
  await writeFile(path, '');
  await truncate(path, 8 * MiB);
  const loop = await attachPartitioned(t, path, 0x0f1e2d3c, [{ start: 2048, length: 4096 }]);
  t.is(await readMarkOfDisk(`${loop}p1`), null);
  const disk = await open(loop, 'r+');
  await disk.write(encodeMark(POINT, STARTED), 0, MARK_BYTES, 0);
  await disk.sync();
  await disk.close();
  t.is((await readMarkOfDisk(`${loop}p1`))?.point?.id, POINT.id);
  t.is(await readMarkOfDisk(loop), null, 'of a disk readMark tells');
  t.is(await readMarkOfDisk(path), null);
});
