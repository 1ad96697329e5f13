/** A restore to a moment: a point, and over it what a journal has behind it. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { decodeMark } from '../../../src/devices/facts/half-restored.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { KiB } from '../../../src/domain/base/limits.js';
import { native } from '../../../src/native/index.js';
import { attachLoop } from '../../helpers/disks/loop-device.js';
import { WriteLog } from '../../helpers/faults/write-log.js';
import { applyJournal } from '../../helpers/journals/apply-journal.js';
import {
  type MomentWorld,
  type MomentWorldOptions,
  momentWorld,
} from '../../helpers/journals/moment-world.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';
import { LONG, seededRandom } from '../../helpers/seed.js';

const BLOCK = 65_536;

const world = (t: ExecutionContext, options: MomentWorldOptions = {}): Promise<MomentWorld> =>
  momentWorld(t, seededRandom(t), options);

const isMarked = async (path: string) => decodeMark(await readFile(path)) !== null;

test.serial('a new image is what the device was at that second, whichever it is', async (t) => {
  const made = await world(t);
  const random = seededRandom(t);
  for (const second of [0, 1, 60, ...Array.from({ length: 8 }, () => random.below(60))]) {
    const target = made.at(`image-${second}`);
    const result = await made.restoreTo(second, target, { verify: second % 2 === 0 });
    t.true(made.bytesAt(second).equals(await readFile(target)), `second ${second}`);
    const changes = made.records.slice(0, second).filter(({ kind }) => kind === 'write' || kind === 'zero');
    t.is(result.moment?.writes, changes.length);
    t.is(
      result.moment?.time,
      new Date(Date.parse('2026-03-01T12:00:00Z') + second * 1000).toISOString().replace('Z', '000000Z'),
    );
    t.is(result.moment?.isAudited, changes.length === 0);
  }
});

test.serial('in place it is the same, from whatever was there, also where the point was there', async (t) => {
  const made = await world(t);
  const target = made.at('target.img');
  for (const before of [Buffer.alloc(40 * BLOCK, 7), made.bytes, made.bytesAt(60), Buffer.alloc(9999, 3)]) {
    for (const second of [60, 33]) {
      await writeFile(target, before);
      await made.restoreTo(second, target, { verify: true });
      t.true(made.bytesAt(second).equals(await readFile(target)));
    }
  }
});

const GEOMETRIES = [
  { blockSize: 64 * KiB, sizeBytes: 9 * 64 * KiB - 1536 },
  { blockSize: 4 * KiB, sizeBytes: 300 * KiB },
  { blockSize: 1024 * KiB, sizeBytes: 2048 * KiB },
  { blockSize: 4 * KiB, sizeBytes: 512 },
];

for (const geometry of GEOMETRIES) {
  const { blockSize, sizeBytes } = geometry;
  test.serial(
    `cut anywhere, a target in place is what it was, marked, or done: ${sizeBytes} in ${blockSize}`,
    async (t) => {
      const made = await world(t, { geometry, blockIndexes: [0], count: 30 });
      const random = seededRandom(t);
      const [target, after] = [made.at('target.img'), made.bytesAt(30)];
      applyJournal(t);
      const log = WriteLog.record(t);
      for (const before of [Buffer.alloc(sizeBytes, 7), made.bytes]) {
        await writeFile(target, before);
        log.entries.length = 0;
        await made.restoreTo(30, target);
        t.true(after.equals(await readFile(target)));
        const seen = new Set<string>();
        for (let count = 0; count <= log.entries.length; count += 1) {
          for (let round = 0; round < (LONG ? 100 : 5); round += 1) {
            const content = log.afterCut(before, count, random);
            const state = content.equals(after)
              ? 'after'
              : content.equals(before)
                ? 'before'
                : decodeMark(content) === null
                  ? 'mixed'
                  : 'marked';
            if (state === 'mixed') t.fail(`mixed after ${count} of ${log.entries.length} steps`);
            seen.add(state);
          }
        }
        t.true(seen.has('before') && seen.has('after'));
      }
    },
  );
}

test.serial(
  'a restore that breaks off between the records is marked, and the same again completes it',
  async (t) => {
    let isBroken = true;
    const made = await world(t, {
      onRecords: (request) => {
        if (isBroken && request === 3)
          throw new StillpointError('journal-gap', { thing: 'journal', reason: 'they were removed' });
      },
    });
    const target = made.at('target.img');
    await writeFile(target, Buffer.alloc(40 * BLOCK, 7));
    await refused(
      t,
      made.restoreTo(60, target),
      'journal-gap',
      /behind point disk1@1: the receiver does not have all of it any more/,
    );
    t.true(await isMarked(target));
    t.regex(made.told.warnings.join(), /half restored, and marked/);
    const image = made.at('new.img');
    made.asked.length = 0;
    await refused(t, made.restoreTo(60, image), 'journal-gap');
    await t.throwsAsync(stat(image), { code: 'ENOENT' });
    isBroken = false;
    await made.restoreTo(60, target);
    t.true(made.bytesAt(60).equals(await readFile(target)));
  },
);

test.serial('records that are gone before it begins leave the target as it was', async (t) => {
  const made = await world(t);
  const target = made.at('target.img');
  const before = Buffer.alloc(40 * BLOCK, 7);
  await writeFile(target, before);
  await made.journals.trim('local', made.journalId, 7);
  await refused(t, made.restoreTo(60, target), 'journal-gap', /points --journal/);
  await made.journals.remove('local', made.journalId);
  await refused(t, made.restoreTo(60, target), 'journal-unknown');
  t.true(before.equals(await readFile(target)));
});

test.serial('a page that does not come is asked for again', async (t) => {
  const made = await world(t, {
    onRecords: (request) => {
      if (request % 2 === 0)
        throw new StillpointError('unreachable', { thing: 'receiver', reason: 'a test' });
    },
  });
  await made.restoreTo(60, made.at('image'));
  t.true(made.bytesAt(60).equals(await readFile(made.at('image'))));
  t.true(new Set(made.asked).size < made.asked.length);
});

test.serial('records that are not the ones, or not whole, are never written', async (t) => {
  const spoilt: readonly (readonly [string, (records: Buffer) => Buffer, RegExp])[] = [
    [
      'a flipped bit',
      (records) => flipped(records, records.length - 1),
      /sent something other than its records/,
    ],
    ['a flipped length', (records) => flipped(records, 11), /not a whole record/],
    ['cut', (records) => records.subarray(0, records.length - 1), /not a whole record/],
    ['of another place', (records) => records.subarray(64 + records.readUInt32LE(8)), /has the number 7/],
    ['foreign', () => Buffer.alloc(640, 1), /not a whole record/],
  ];
  for (const [what, spoilRecords, text] of spoilt) {
    const made = await world(t, {
      spoilRecords: (records) => (records.length === 0 ? records : spoilRecords(records)),
    });
    const target = made.at('target.img');
    await writeFile(target, Buffer.alloc(40 * BLOCK, 7));
    await refused(t, made.restoreTo(60, target), 'bad-batch', text);
    t.is(await isMarked(target), what === 'a flipped bit', what);
  }
});

test.serial('a receiver that ends before the last record that it has is not believed', async (t) => {
  const made = await world(t, {
    spoilRecords: (records) => (records.readUInt8?.(16) > 6 ? Buffer.alloc(0) : records),
  });
  await refused(
    t,
    made.restoreTo(60, made.at('image'), { moment: made.moment(60) }),
    'journal-gap',
    /up to \d+ only, of 65/,
  );
});

test.serial('what the point leaves out the records leave alone, whatever is written there', async (t) => {
  const [from, to] = [3, 9];
  const excluded = [{ byteOffset: from * BLOCK, byteLength: (to - from) * BLOCK, reason: 'swap' }];
  const made = await world(t, { point: { excluded }, blockIndexes: [0, 12, 39], count: 80 });
  const target = made.at('target.img');
  const kept = (bytes: Buffer) => bytes.subarray(from * BLOCK, to * BLOCK);
  for (const zeroExcluded of [false, true]) {
    const before = Buffer.alloc(40 * BLOCK, 7);
    await writeFile(target, before);
    const result = await made.restoreTo(80, target, { zeroExcluded, verify: true });
    const content = await readFile(target);
    const expected = made.bytesAt(80);
    expected.set(zeroExcluded ? Buffer.alloc((to - from) * BLOCK) : kept(before), from * BLOCK);
    t.true(content.equals(expected), `zero ${zeroExcluded}`);
    t.true((result.moment?.writes ?? 80) < 80);
  }
  await made.restoreTo(80, made.at('new.img'));
  t.true(kept(await readFile(made.at('new.img'))).every((byte) => byte === 0));
});

test.serial('later points prove it, or not yet', async (t) => {
  for (const [auditedOrdinal, isAudited] of [
    [65, true],
    [64, false],
  ] as const) {
    const made = await world(t, { auditedOrdinal });
    t.is((await made.restoreTo(60, made.at(`image-${auditedOrdinal}`))).moment?.isAudited, isAudited);
  }
});

test.serial('a stream gets the point where nothing was written behind it, and else nothing', async (t) => {
  const made = await world(t);
  const first = made.records.findIndex(({ kind }) => kind === 'write' || kind === 'zero');
  const chunks: Buffer[] = [];
  const output = new PassThrough();
  output.on('data', (chunk: Buffer) => chunks.push(chunk));
  await refused(
    t,
    made.restoreTo(60, '-', { output }),
    'usage',
    /is disk1@1 and what was written after it.*image file, or only disk1@1/,
  );
  t.is(chunks.length, 0);
  const result = await made.restoreTo(first, '-', { output });
  t.true(Buffer.concat(chunks).equals(made.bytes));
  t.is(result.moment?.writes, 0);
});

test.serial(
  'what reads back differently is told: the point before records come, the head behind them',
  async (t) => {
    const made = await world(t);
    const target = made.at('target.img');
    const { openDevice } = native;
    t.teardown(() => Object.assign(native, { openDevice }));
    await writeFile(target, Buffer.alloc(40 * BLOCK, 7));
    native.openDevice = async (...args) => {
      const device = await openDevice.apply(native, args);
      const write = device.write.bind(device);
      // The last write of the first sector gets lost.
      const value = async (at: number, bytes: Uint8Array) => {
        if (at !== 0 || bytes.length !== 512 || decodeMark(Buffer.from(bytes)) !== null)
          await write(at, bytes);
      };
      Object.defineProperty(device, 'write', { value });
      return device;
    };
    await refused(
      t,
      made.restoreTo(60, target, { verify: true }),
      'bad-digest',
      /the first 131072 bytes \(byte 0\) reads back differently/,
    );
    t.true(await isMarked(target));
  },
);

test.serial('lost blocks are named, and that records may have made them whole', async (t) => {
  const made = await world(t, { lost: [[20, 21]] });
  const target = made.at('image');
  await refused(t, made.restoreTo(60, target), 'store-damaged');
  const spoiling = made.receiver.blocks;
  Object.assign(made.receiver, {
    blocks: (id: string, wanted: readonly number[]) => {
      if (wanted.includes(20))
        throw new StillpointError('store-damaged', { thing: 'block', reason: 'a test' });
      return spoiling(id, wanted);
    },
  });
  const result = await made.restoreTo(60, target, { skipBad: true });
  t.deepEqual(result.lostRanges, [{ byteOffset: 20 * BLOCK, byteLength: BLOCK }]);
  t.regex(result.warnings.join(), /may have been written later/);
});

testWith(
  ['root', 'loop'],
  'a larger block device is written up to the end of the point, and no further',
  async (t) => {
    const made = await world(t);
    const backing = made.at('disk');
    await writeFile(backing, Buffer.alloc(44 * BLOCK, 7));
    const device = await attachLoop(t, backing);
    await made.restoreTo(60, device, { verify: true });
    const content = await readFile(device);
    t.true(content.subarray(0, 40 * BLOCK).equals(made.bytesAt(60)));
    t.true(content.subarray(40 * BLOCK).every((byte) => byte === 7));
  },
);

function flipped(records: Buffer, at: number): Buffer {
  const copy = Buffer.from(records);
  copy.writeUInt8((copy[at] ?? 0) ^ 1, at);
  return copy;
}
