/** The journal of a tap, over a fake native tap: its settings, its spool, what its process makes of it. */
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { z } from 'zod';
import { writeStateFile } from '../../src/config/state-file.js';
import { MiB } from '../../src/domain/base/limits.js';
import { connectTap } from '../../src/tap/control/client.js';
import { serveTap } from '../../src/tap/daemon.js';
import { journalWatch } from '../../src/tap/journal.js';
import { reportOf } from '../../src/tap/launch.js';
import { addTap, lockTap, type RegisteredTap, readTap, removeTap } from '../../src/tap/registry/registry.js';
import { setJournal } from '../../src/tap/registry/set-journal.js';
import { FakeTap, fakeTapAddon } from '../helpers/fakes/tap.js';
import { holdAtOnce } from '../helpers/machines/hold-at-once.js';
import { refused } from '../helpers/refused.js';
import { makeTapPlace, SILENT, settingsFor, type TapPlace } from '../helpers/worlds/taps.js';

const HOLD = {
  ...{ sessionId: '0123456789abcdef'.repeat(2), basePointId: null, full: true, readBlockSize: 65_536 },
  sampleBlocks: [],
};
const JOURNAL_ID = 'abcdef0123456789'.repeat(2);
const spoolOf = (place: TapPlace) => join(place.directory, 'taps', 'disk', 'journal');
const journalIn = (directory: string) => ({ directory, maxBytes: 16 * MiB });

async function journaled(t: ExecutionContext): Promise<{ place: TapPlace; tap: RegisteredTap }> {
  const place = await makeTapPlace(t);
  const settings = settingsFor(place, { journal: journalIn(spoolOf(place)) });
  return { place, tap: await addTap(place.directory, settings) };
}

async function addImage(place: TapPlace, name: string): Promise<string> {
  const path = join(place.directory, `${name}.img`);
  await writeFile(path, name);
  return path;
}

test('the file of a tap from before there were journals says none', async (t) => {
  const { place, tap } = await journaled(t);
  const { journal, ...former } = tap.settings;
  t.not(journal, null);
  const format = { format: 'stillpoint tap', version: 1, schema: z.unknown() };
  await writeStateFile(join(tap.directory, 'tap.json'), format, former);
  t.deepEqual((await readTap(place.directory, 'disk')).settings, { ...former, journal: null });
});

test('a tap with a journal has a spool, heads and the write clock of all taps', async (t) => {
  const { place, tap } = await journaled(t);
  t.true((await stat(spoolOf(place))).isDirectory());
  t.is(tap.headDirectory, tap.settings.runDirectory);
  const other = await addTap(
    place.directory,
    settingsFor(place, { name: 'other', sourcePath: await addImage(place, 'other') }),
  );
  t.deepEqual(other.clock, tap.clock);
  t.is(dirname(tap.clock.wordPath), dirname(tap.settings.runDirectory));
  t.is(tap.clock.reservationPath, join(place.directory, 'write-clock'));
});

test('no two taps have one spool, and none takes over what is in it', async (t) => {
  const { place } = await journaled(t);
  const sourcePath = await addImage(place, 'other');
  const add = (directory: string) =>
    addTap(place.directory, settingsFor(place, { name: 'other', sourcePath, journal: journalIn(directory) }));
  await refused(t, add(spoolOf(place)), 'config', /the tap disk has it/);
  const left = join(place.directory, 'left');
  await mkdir(join(left, JOURNAL_ID), { recursive: true });
  await refused(t, add(left), 'config', /journals of another tap/);
  await rm(join(left, JOURNAL_ID), { recursive: true });
  await writeFile(join(left, 'lost+found'), '');
  await add(left);
  const disk = await readTap(place.directory, 'disk');
  await refused(t, setJournal(place.directory, disk, journalIn(left)), 'config', /the tap other has it/);
});

test('a tap that goes takes its journals along, and nothing else', async (t) => {
  const { place, tap } = await journaled(t);
  const away = join(place.directory, 'away');
  const moved = await setJournal(place.directory, tap, journalIn(away));
  await mkdir(join(away, JOURNAL_ID));
  await writeFile(join(away, JOURNAL_ID, '0000000001.segment'), 'records');
  await writeFile(join(away, 'precious'), '');
  await removeTap(place.directory, moved);
  t.deepEqual(await readdir(away), ['precious']);
});

test('a journal is given to a tap that runs; taken away, or moved, only where none does', async (t) => {
  const place = await makeTapPlace(t);
  const tap = await addTap(place.directory, settingsFor(place));
  const set = (journal: RegisteredTap['settings']['journal']) => setJournal(place.directory, tap, journal);
  const settings = async () => (await readTap(place.directory, 'disk')).settings;
  await writeFile(tap.mapPath, 'map');
  const serving = await lockTap(tap);
  const spool = spoolOf(place);
  t.deepEqual((await set(journalIn(spool))).settings, { ...tap.settings, journal: journalIn(spool) });
  t.true((await stat(spool)).isDirectory());
  await mkdir(join(spool, JOURNAL_ID));
  await set({ directory: spool, maxBytes: 32 * MiB });
  t.is((await settings()).journal?.maxBytes, 32 * MiB);
  t.deepEqual(await readdir(spool), [JOURNAL_ID]);
  const away = join(place.directory, 'away');
  for (const other of [null, journalIn(away)]) {
    await refused(t, set(other), 'device-in-use', /a process serves it/);
    t.is((await settings()).journal?.directory, spool);
    t.deepEqual(await readdir(spool), [JOURNAL_ID]);
  }
  await serving.close();
  await set(journalIn(away));
  await t.throwsAsync(stat(spool), { code: 'ENOENT' });
  await set(null);
  t.deepEqual(await settings(), tap.settings);
  await t.throwsAsync(stat(away), { code: 'ENOENT' });
  t.true((await stat(tap.mapPath)).isFile());
});

async function serving(t: ExecutionContext, tap: RegisteredTap) {
  const [addon, stopped] = [fakeTapAddon(), new AbortController()];
  const served = serveTap({ tap, addon, log: SILENT, signal: stopped.signal });
  const failed = served.then(() => undefined);
  while ((await reportOf(tap)) === null) await Promise.race([failed, sleep(10)]);
  const control = await connectTap(tap.controlPath);
  t.teardown(() => control.close());
  const [native] = addon.taps;
  if (native === undefined) throw new Error('nothing was made');
  const end = async () => {
    control.close();
    stopped.abort();
    await served;
  };
  return { native, control, end };
}

test('its process has it opened, and passes on what is said of it', async (t) => {
  const { tap } = await journaled(t);
  const { native, control, end } = await serving(t, tap);
  t.deepEqual(native.options.journal, {
    ...{ directory: tap.spoolDirectory, maxBytes: 16 * MiB },
    ...{ headDirectory: tap.headDirectory, clock: tap.clock },
  });
  t.deepEqual((await control.status()).status.journal, { heads: [], failure: '', aheadMs: 0 });
  const { journal } = await holdAtOnce(control, HOLD);
  t.like((await control.status()).status.journal?.heads, [
    { journalId: journal?.journalId, stamp: journal?.stamp, state: 'open' },
  ]);
  await control.breakJournal(journal?.journalId ?? '', 'the receiver refuses it');
  t.like((await control.status()).status.journal?.heads, [
    { state: 'broken', reason: 'the receiver refuses it' },
  ]);
  await control.releaseJournal(journal?.journalId ?? '', 1);
  t.true(native.calls.includes(`releaseJournal ${journal?.journalId} 1`));
  native.closingFailure = 'the spool is full';
  await t.notThrowsAsync(end());
});

test('a tap without one opens none, and its messages have no such field', async (t) => {
  const place = await makeTapPlace(t);
  const { native, control, end } = await serving(t, await addTap(place.directory, settingsFor(place)));
  t.is(native.options.journal, null);
  t.false('journal' in (await control.status()).status);
  t.false('journal' in (await holdAtOnce(control, HOLD)));
  await end();
});

test('a spool that can not be had does not keep the tap from serving, and its status says why', async (t) => {
  const { tap } = await journaled(t);
  await rm(tap.spoolDirectory, { recursive: true });
  await writeFile(tap.spoolDirectory, 'in its place');
  const { native, control, end } = await serving(t, tap);
  t.is(native.options.journal, null);
  t.like((await control.status()).status.journal, { heads: [], aheadMs: 0 });
  t.regex((await control.status()).status.journal?.failure ?? '', /journal/);
  await holdAtOnce(control, HOLD);
  await end();
});

test('the log says once when a journal begins, and when it breaks', async (t) => {
  const clock = { wordPath: '', lockPath: '', reservationPath: '' };
  const journal = { directory: '', headDirectory: '', maxBytes: 1, clock };
  const native = new FakeTap({ path: '', blockSize: 65_536, mapPath: null, identity: '', journal });
  const lines: { level: number; journal: string; msg: string; reason?: string }[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) });
  const look = journalWatch(native, null, log);
  look();
  t.deepEqual(lines, []);
  const position = native.journal?.cut();
  look();
  native.journal?.stamp();
  look();
  t.deepEqual(lines, [{ level: 30, journal: position?.journalId, msg: 'a journal is written' }]);
  native.journal?.break(position?.journalId ?? '', 'its spool is full');
  look();
  look();
  t.is(lines.length, 2);
  t.like(lines[1], { level: 40, reason: 'its spool is full' });
  native.journal?.cut();
  look();
  t.is(lines[2]?.msg, 'a journal is written');
});
