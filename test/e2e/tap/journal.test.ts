/** A tap with a journal, by its commands, with other people's programs as writers. */
import { existsSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../../src/domain/base/limits.js';
import type { TapJournalHead } from '../../../src/native/index.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { nbdsh } from '../../helpers/disks/nbdsh.js';
import { makeMachine, points, runExpecting } from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { type Tapped, tapped } from '../../helpers/worlds/tapped.js';

const SIZE = 8 * MiB;
const NEEDS = programs('nbdsh');
const SEGMENT = '0000000001.segment';

/** Each write and zeroing is answered before the next. */
async function write(t: ExecutionContext, tap: Tapped, count: number, value: string): Promise<void> {
  const each = `for i in range(${count}): h.pwrite(b"${value}" * (1024 * 1024), i % 8 * 1024 * 1024)`;
  t.is(await nbdsh(t, tap.uri, 'h = connected()', each, 'h.shutdown()', 'result = "done"'), 'done');
}

async function journalOf(tap: Tapped) {
  const { journal } = (await tap.report()).status;
  if (journal === undefined) throw new Error('the tap has no journal');
  return journal;
}

/** As soon as all that was answered can be read. */
async function headOf(tap: Tapped): Promise<TapJournalHead> {
  for (;;) {
    const head = (await journalOf(tap)).heads.at(-1);
    if (head !== undefined && head.ordinal === head.lastOrdinal) return head;
  }
}

async function positionIn(t: ExecutionContext, tap: Tapped) {
  const all = await points(t, tap.machine, tap.at('store'));
  return all.at(-1)?.journal;
}

testWith(NEEDS, 'every write is in the spool; a point has the position of its instant', async (t) => {
  const tap = await tapped(t, { sizeBytes: SIZE, args: ['--journal'] });
  t.deepEqual((await journalOf(tap)).heads, []);
  await write(t, tap, 1, 'a');
  const { point } = await tap.backup();
  const position = await positionIn(t, tap);
  t.deepEqual(position, point.journal);
  t.is(position?.ordinal, 1);
  await write(t, tap, 3, 'b');
  const head = await headOf(tap);
  t.like(head, { journalId: position?.journalId, clockId: position?.clockId, state: 'open', ordinal: 4 });
  const spool = join(tap.machine.stateDirectory, 'taps', 'disk', 'journal', head.journalId);
  t.is((await stat(join(spool, SEGMENT))).size, head.endOffset);
  t.true(head.endOffset > 3 * MiB);
  t.true(existsSync(join(tap.settings.runDirectory, `${head.journalId}.head`)));
  const later = await tap.backup();
  t.like(later.point.journal, { journalId: position?.journalId, ordinal: 5 });
  const { stdout } = await runExpecting(t, tap.machine, 0, 'tap', 'status', 'disk');
  t.regex(
    stdout,
    new RegExp(`journal   up to .* in .*\\n +${head.journalId}, 5 records up to .*, 3(.0)? MiB`),
  );
});

testWith(NEEDS, 'a clean end goes on with the same journal, a kill does not', async (t) => {
  const tap = await tapped(t, { sizeBytes: SIZE, args: ['--journal'] });
  await tap.backup();
  await write(t, tap, 2, 'a');
  const before = await headOf(tap);
  await tap.stop();
  await tap.start();
  t.like(await headOf(tap), { journalId: before.journalId, ordinal: 3, state: 'open' });
  await write(t, tap, 1, 'b');
  t.like(await headOf(tap), { journalId: before.journalId, ordinal: 4, segment: 2 });
  await tap.kill();
  await tap.start();
  const killed = await headOf(tap);
  t.like(killed, { journalId: before.journalId, state: 'broken', reason: 'the tap did not end cleanly' });
  await write(t, tap, 1, 'c');
  t.deepEqual(await headOf(tap), killed);
  const { point } = await tap.backup();
  t.not(point.journal?.journalId, before.journalId);
  t.is((await journalOf(tap)).heads.length, 2);
});

testWith(NEEDS, 'a full spool breaks the journal, and no write', async (t) => {
  const tap = await tapped(t, { sizeBytes: SIZE, args: ['--journal', '--journal-max', '16M'] });
  await tap.backup();
  await write(t, tap, 20, 'a');
  const full = await headOf(tap);
  t.like(full, { state: 'broken', reason: 'its spool is full' });
  t.true(full.endOffset <= 16 * MiB);
  await write(t, tap, 8, 'b');
  t.is((await tap.report()).status.counters.errors, 0);
  const { point } = await tap.checkPoint();
  t.like(await headOf(tap), { journalId: point.journal?.journalId, state: 'open' });
  t.not(point.journal?.journalId, full.journalId);
});

testWith(
  ['root', 'loop', ...NEEDS, { program: 'mkfs.ext4' }],
  'a spool on a file system that is full, or away, breaks the journal, and no write',
  async (t) => {
    const machine = await makeMachine(t, 'tapped');
    const [image, at] = [join(machine.directory, 'spool.img'), join(machine.directory, 'spool')];
    run('truncate', '--size', '16M', image);
    const device = attachLoop(t, image);
    run('mkfs.ext4', '-q', device);
    await mount(t, device, at);
    const directory = join(at, 'journal');
    const args = ['--journal', '--journal-dir', directory, '--journal-max', '1G'];
    const tap = await tapped(t, { machine, sizeBytes: SIZE, args });
    await tap.backup();
    await write(t, tap, 24, 'a');
    const full = await headOf(tap);
    t.regex(full.reason, /^its spool can't be written: No space left/);
    await write(t, tap, 2, 'b');
    const { point } = await tap.checkPoint();
    // What is there is kept for the receiver, as long as it is within its bounds.
    t.true(point.journal === undefined || point.journal.journalId !== full.journalId);
    await tap.stop();
    await rm(directory, { recursive: true });
    await tap.start();
    t.regex((await journalOf(tap)).failure, /can't be opened: .*No such file or directory/);
    await write(t, tap, 2, 'c');
    t.is((await tap.checkPoint()).point.journal, undefined);
    t.is((await tap.report()).status.counters.errors, 0);
    run('mkdir', directory);
    t.not((await tap.checkPoint()).point.journal, undefined);
    t.is((await readdir(directory)).length, 1);
  },
);

testWith(NEEDS, 'the points of a group have the position of each member', async (t) => {
  const tap = await tapped(t, { sizeBytes: SIZE, args: ['--journal'] });
  const other = tap.at('other.img');
  run('truncate', '--size', String(MiB), other);
  await runExpecting(t, tap.machine, 0, 'tap', 'add', other, '--name', 'other', '--journal');
  t.teardown(() => runExpecting(t, tap.machine, 0, 'tap', 'remove', 'other', '--force'));
  const members = [`data=${tap.source}`, `wal=${other}`];
  await runExpecting(
    ...([t, tap.machine, 0, 'backup', '--group', 'db', ...members] as const),
    ...['--store', tap.at('store')],
  );
  const [data, wal] = await points(t, tap.machine, tap.at('store'));
  t.is(data?.journal?.ordinal, 1);
  t.is(wal?.journal?.ordinal, 1);
  t.not(data?.journal?.journalId, wal?.journal?.journalId);
  t.is(data?.journal?.clockId, wal?.journal?.clockId);
  t.not(data?.journal?.stamp, wal?.journal?.stamp);
});

testWith(NEEDS, 'a tap that exists gets a journal at its next start, and keeps its map', async (t) => {
  const tap = await tapped(t, { sizeBytes: SIZE });
  const set = (...args: string[]) => runExpecting(t, tap.machine, 0, 'tap', 'set', 'disk', ...args);
  await tap.backup();
  await write(t, tap, 1, 'a');
  t.regex(
    (await set('--journal')).stdout,
    /from its next start on\)[\s\S]*from the next start of the tap on/,
  );
  t.is((await tap.report()).status.journal, undefined);
  await tap.stop();
  await tap.start();
  t.deepEqual((await journalOf(tap)).heads, []);
  const { tracking, point } = await tap.backup();
  t.true(tracking.used);
  t.is(point.journal?.ordinal, 1);
  await tap.stop();
  await set('--no-journal');
  t.false(existsSync(join(tap.machine.stateDirectory, 'taps', 'disk', 'journal')));
  await tap.start();
  t.is((await tap.report()).status.journal, undefined);
  t.true((await tap.backup()).tracking.used);
});
