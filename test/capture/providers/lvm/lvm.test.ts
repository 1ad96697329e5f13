/** Sessions one after the other over a fake LVM: what is kept, what is known, what is left. */
import test, { type ExecutionContext } from 'ava';
import { snapshotsOf } from '../../../../src/capture/instant.js';
import type { HoldOptions, Snapshot } from '../../../../src/capture/ports.js';
import { CommandError } from '../../../../src/capture/providers/lvm/host.js';
import { prepareLvm } from '../../../../src/capture/providers/lvm/lvm.js';
import { temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { FakeLvm, type FakeLvmOptions } from '../../../helpers/fakes/lvm.js';
import { refused } from '../../../helpers/refused.js';

const BLOCK = 65_536;
const BLOCKS = 32;
const id = (digit: string): string => digit.repeat(32);

async function makeLvm(t: ExecutionContext, options: Partial<FakeLvmOptions> = {}): Promise<FakeLvm> {
  const directory = await temporaryDirectory(t, 'lvm');
  return FakeLvm.make({ directory, sizeBytes: BLOCKS * BLOCK, ...options });
}

async function hold(
  t: ExecutionContext,
  host: FakeLvm,
  sessionId: string,
  basePointId: string | null,
  more: Partial<HoldOptions> = {},
): Promise<Snapshot> {
  let next = 0;
  const random = (): number => (next++ % BLOCKS) / BLOCKS;
  const source = { host, path: host.path, random };
  const rest = { name: 'x', hooks: [], freeze: 'auto' as const };
  const provider = snapshotsOf('lvm', (_path, options) => prepareLvm(source, options), rest);
  const options = {
    sessionId,
    basePointId,
    full: false,
    doubt: null,
    blockSize: BLOCK,
    fuzzy: false,
    ...more,
  };
  const snapshot = await provider.hold(host.path, options);
  t.teardown(() => snapshot.release());
  return snapshot;
}

/** A whole session: held, concluded, committed, released. */
async function backUp(t: ExecutionContext, host: FakeLvm, sessionId: string, base: string | null) {
  const snapshot = await hold(t, host, sessionId, base);
  const { facts } = await snapshot.conclude();
  await snapshot.tracking?.committed();
  await snapshot.release();
  const { changes = null, reason } = snapshot.tracking ?? {};
  return { facts, ranges: changes?.ranges ?? null, reason };
}

const write = (host: FakeLvm, block: number, byte: number): Promise<void> =>
  host.write(block * BLOCK + 8192, Buffer.alloc(4096, byte));

for (const isThin of [false, true]) {
  const tags = isThin ? [] : ['stillpoint-keep'];
  const kind = isThin ? 'thin' : 'thick';

  test(`${kind}: what was written since the last point is known from its snapshot, of which one is kept`, async (t) => {
    const host = await makeLvm(t, { isThin, tags });
    t.like(await backUp(t, host, id('a'), null), { ranges: null, reason: 'there is no last point yet' });
    t.deepEqual(host.names, [`stillpoint-${id('a')}`]);
    await write(host, 3, 1);
    await write(host, 4, 1);
    const second = await hold(t, host, id('b'), id('a'));
    t.deepEqual(second.tracking?.changes?.ranges, [[3, 5]]);
    const sample = second.tracking?.changes?.sample ?? [];
    t.true(sample.length > 20 && !sample.includes(3) && sample.includes(5));
    t.true(second.tracking?.knows(id('a')));
    t.false(second.tracking?.knows(id('b')));
    // A write now is not of this instant, but of the next differences.
    await write(host, 9, 2);
    t.deepEqual(await second.device.read(9 * BLOCK + 8192, 4096), Buffer.alloc(4096, 's'));
    await second.tracking?.committed();
    await second.release();
    t.deepEqual(host.names, [`stillpoint-${id('b')}`]);
    t.deepEqual((await backUp(t, host, id('c'), id('b'))).ranges, [[9, 10]]);
    t.deepEqual((await backUp(t, host, id('d'), id('c'))).ranges, []);
    t.false(host.isHeld);
  });

  test(`${kind}: without a commit the kept snapshot stays, and its differences are told again`, async (t) => {
    const host = await makeLvm(t, { isThin, tags });
    await backUp(t, host, id('a'), null);
    await write(host, 3, 1);
    const second = await hold(t, host, id('b'), id('a'));
    t.is(host.names.length, 2);
    await second.release();
    t.deepEqual(host.names, [`stillpoint-${id('a')}`]);
    t.deepEqual((await backUp(t, host, id('c'), id('a'))).ranges, [[3, 4]]);
  });

  test(`${kind}: a session that died leaves a snapshot that the next one removes, or uses if it was committed`, async (t) => {
    const host = await makeLvm(t, { isThin, tags });
    await backUp(t, host, id('a'), null);
    /** As SIGKILL leaves it. */
    const die = (sessionId: string) =>
      host.run('lvcreate', [
        ...[
          '-y',
          '-s',
          '-L',
          '1048576b',
          '-n',
          `stillpoint-${sessionId}`,
          '--addtag',
          'stillpoint',
          '--addtag',
        ],
        ...[`stillpoint-session=${sessionId}`, '--addtag', `stillpoint-size=${BLOCKS * BLOCK}`],
        ...['--addtag', 'stillpoint-mapping', 'vg/data'],
      ]);
    await write(host, 1, 1);
    await die(id('b'));
    host.isHeld = isThin;
    await write(host, 2, 1);
    const next = await hold(t, host, id('c'), id('a'));
    t.false(next.tracking?.knows(id('b')));
    await next.release();
    t.deepEqual(host.names, [`stillpoint-${id('a')}`]);
    t.deepEqual((await backUp(t, host, id('c'), id('a'))).ranges, [[1, 3]]);
    t.deepEqual(host.names, [`stillpoint-${id('c')}`]);
    await write(host, 5, 1);
    await die(id('d'));
    await write(host, 6, 1);
    t.deepEqual((await backUp(t, host, id('e'), id('d'))).ranges, [[6, 7]]);
    t.deepEqual(host.names, [`stillpoint-${id('e')}`]);
    t.false(host.isHeld);
  });

  test(`${kind}: differences are not believed where they may be of something else`, async (t) => {
    const rows: [RegExp, (host: FakeLvm) => unknown, Partial<HoldOptions>, string?][] = [
      [/^it smells$/, () => 0, { doubt: 'it smells' }],
      [/^everything was asked for$/, () => 0, { full: true }],
      [/^the snapshot that was kept is of another point$/, () => 0, {}, id('9')],
      [/^the volume has another size/, (host) => (host.sizeBytes += BLOCK), {}],
      [
        /^no snapshot of the last point was kept/,
        (host) => host.run('lvremove', [`vg/${host.names[0]}`]),
        {},
      ],
      ...(isThin
        ? ([
            [/^thin_delta is not installed/, (host: FakeLvm) => host.missing.add('thin_delta'), {}],
            [/another program holds the metadata/, (host: FakeLvm) => (host.isHeld = true), {}],
          ] as [RegExp, (host: FakeLvm) => unknown, Partial<HoldOptions>][])
        : ([
            [
              /^more was written since the last point than/,
              (host: FakeLvm) => host.write(0, Buffer.alloc(10 * BLOCK)),
              {},
            ],
            [
              /device mapper says "Invalid"/,
              (host: FakeLvm) => {
                // It overflows after it was looked at, and before its store is read.
                host.before.dmsetup = () => {
                  const [kept, other] = [...host.snapshots.values()];
                  if (kept !== undefined && other !== undefined) kept.isInvalid = true;
                };
              },
              {},
            ],
          ] as [RegExp, (host: FakeLvm) => unknown, Partial<HoldOptions>][])),
    ];
    for (const [reason, change, more, base = id('a')] of rows) {
      const host = await makeLvm(t, { isThin, tags });
      await backUp(t, host, id('a'), null);
      await change(host);
      const snapshot = await hold(t, host, id('b'), base, more);
      t.is(snapshot.tracking?.changes, null, String(reason));
      t.regex(snapshot.tracking?.reason ?? '', reason);
      if (more.doubt !== undefined) t.is(host.names.length, 1);
      await snapshot.release();
      if (host.missing.size === 0) t.is(host.isHeld, String(reason).includes('another program'));
    }
  });

  test(`${kind}: after a comparison changes count from its point, with what differed`, async (t) => {
    const host = await makeLvm(t, { isThin, tags });
    const whole = await hold(t, host, id('a'), null, { full: true });
    await whole.tracking?.adopt(id('7'), [[2, 4]], true);
    await whole.release();
    await write(host, 8, 1);
    const part = await hold(t, host, id('b'), null, { full: true });
    t.true(part.tracking?.knows(id('7')));
    await part.tracking?.adopt(id('7'), [[BLOCKS - 1, BLOCKS]], false);
    await part.release();
    t.is(host.names.length, 1);
    const { ranges } = await backUp(t, host, id('c'), id('7'));
    t.deepEqual(ranges, [
      [2, 4],
      [8, 9],
      [BLOCKS - 1, BLOCKS],
    ]);
    const many = await hold(t, host, id('d'), null, { full: true });
    const odd = Array.from({ length: 300 }, (_, index) => [index * 2, index * 2 + 1] as const);
    await many.tracking?.adopt(id('8'), odd, true);
    await many.release();
    t.deepEqual(host.names, []);
  });

  test(`${kind}: one session at a time`, async (t) => {
    const host = await makeLvm(t, { isThin, tags });
    const first = await hold(t, host, id('a'), null);
    await refused(t, hold(t, host, id('b'), null), 'session-busy', /another backup/);
    await first.release();
    await (await hold(t, host, id('b'), null)).release();
  });

  test(`${kind}: if LVM fails, nothing is left, and its words are the reason`, async (t) => {
    const host = await makeLvm(t, { isThin, tags });
    host.before.lvcreate = (args) => {
      if (args.includes('--test')) return;
      throw new CommandError('lvcreate', 'lvcreate says: suspend ioctl failed: Device or resource busy');
    };
    await refused(t, hold(t, host, id('a'), null), 'device-io', /Device or resource busy/);
    t.true(host.log.some((line) => line.startsWith('lvremove')));
    host.before = { lvcreate: () => Promise.reject(new CommandError('lvcreate', 'of another kind')) };
    await refused(t, hold(t, host, id('a'), null), 'device-io', /of another kind/);
    host.before = {};
    await (await hold(t, host, id('b'), null)).release();
    t.deepEqual(host.names, []);
  });
}

test('a thick volume keeps no snapshot that nobody asked for, and one that nobody wants any more goes', async (t) => {
  const host = await makeLvm(t);
  const plain = await hold(t, host, id('a'), null);
  t.is(plain.tracking, undefined);
  await plain.conclude();
  await plain.release();
  t.deepEqual(host.names, []);
  host.tags = ['stillpoint-keep'];
  await backUp(t, host, id('b'), null);
  t.is(host.names.length, 1);
  host.tags = [];
  await (await hold(t, host, id('c'), id('b'))).release();
  t.deepEqual(host.names, []);
});

test('a thin volume keeps none that its pool might not have room for', async (t) => {
  const host = await makeLvm(t, { isThin: true });
  host.poolBlocks = 100;
  host.usedBlocks = 70;
  t.is((await backUp(t, host, id('a'), null)).ranges, null);
  t.deepEqual(host.names, []);
  host.tags = ['stillpoint-keep'];
  await backUp(t, host, id('b'), null);
  t.is(host.names.length, 1);
});

test('a thick snapshot that has too little room grows, and one that may not overflows: no point', async (t) => {
  const host = await makeLvm(t, { tags: ['stillpoint-start=10', 'stillpoint-max=50'] });
  const grown = await hold(t, host, id('a'), null);
  for (let block = 0; block < 3; block += 1) await host.write(block * BLOCK, Buffer.alloc(BLOCK - 8192));
  while (!host.log.some((line) => line.startsWith('lvextend')))
    await new Promise((done) => setTimeout(done, 50));
  t.is(await grown.lost?.(), null);
  await grown.conclude();
  await host.write(3 * BLOCK, Buffer.alloc(25 * BLOCK));
  const error = await refused(t, grown.conclude(), 'snapshot-lost', /more was written to the volume than/);
  t.regex(error.remedy ?? '', /stillpoint-max=80 vg\/data/);
  await t.throwsAsync(grown.device.read(20 * BLOCK, BLOCK));
  t.is((await grown.lost?.())?.code, 'snapshot-lost');
  await grown.release();
  t.deepEqual(host.names, []);
});

test('a thin snapshot is given up before the pool is full', async (t) => {
  const host = await makeLvm(t, { isThin: true });
  const snapshot = await hold(t, host, id('a'), null);
  host.usedBlocks = 960;
  while (host.names.length > 0) await new Promise((done) => setTimeout(done, 50));
  await t.throwsAsync(snapshot.device.read(0, BLOCK));
  await refused(t, snapshot.conclude(), 'snapshot-lost', /it was given up: its pool is 96 % full/);
  await snapshot.release();
  await refused(t, hold(t, host, id('b'), null), 'device-io', /its pool is 96 % full/);
});
