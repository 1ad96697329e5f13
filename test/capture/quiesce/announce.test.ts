/** Telling users of an instant: before it, and when nobody need wait any longer. Once each. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { snapshotsOf } from '../../../src/capture/instant.js';
import { Announcement } from '../../../src/capture/quiesce/announce.js';
import type { AnnounceWish } from '../../../src/domain/device/announce-wish.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { FakeDisk, type FakeDiskOptions } from '../../helpers/fakes/provider.js';
import { hookScene, WELL_BEHAVED } from '../../helpers/machines/hooks.js';
import { refused } from '../../helpers/refused.js';
import { HOLD } from '../../helpers/worlds/quiesce.js';

const WHAT = { device: '/dev/sdx', name: 'srv', pauseMs: 10_000 };

/** A program that records what it is told, and then does what the script says. */
async function teller(t: ExecutionContext, script = '') {
  const directory = await tempDir(t);
  const [program, log] = [join(directory, 'tell'), join(directory, 'log')];
  const record = `printf '%s|%s|%s|%s\\n' "$STILLPOINT_EVENT" "$STILLPOINT_NAME" "$STILLPOINT_DEVICE" "$1" >> ${log}`;
  await writeFile(program, `#!/bin/sh\n${record}\n${script}\n`);
  await chmod(program, 0o755);
  const lines = async () =>
    (await readFile(log, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '');
  const wish = (changes: Partial<AnnounceWish> = {}): AnnounceWish => ({
    ...{ program, graceMs: 0, isRequired: false },
    ...changes,
  });
  const events = async () => (await lines()).map((line) => line.split('|')[0]);
  return { lines, events, wish, log };
}

test('what it says: which device, when, for how long; and each thing once', async (t) => {
  const { lines, wish } = await teller(t);
  const announcement = new Announcement(wish({ graceMs: 300 }), WHAT);
  const startMs = performance.now();
  await announcement.before();
  t.true(performance.now() - startMs >= 290);
  await announcement.before();
  await announcement.over();
  await announcement.failed();
  const [before = '', over = '', ...more] = await lines();
  t.regex(
    before,
    /^before\|srv\|\/dev\/sdx\|Backup of srv \(\/dev\/sdx\) at \d\d:\d\d:\d\d, in 0\.3 s\. Programs that write to it may pause for up to 10 s\.$/,
  );
  t.regex(over, /^over\|srv\|.*the instant is taken, work can go on\.$/);
  t.deepEqual(more, []);
  t.deepEqual(announcement.warnings, []);
  const untold = new Announcement(wish(), WHAT);
  await untold.failed();
  t.is((await lines()).length, 2, 'who was told nothing need not be told that it is over');
});

test('one that fails is a warning and nobody is waited for, or no backup if that was asked for', async (t) => {
  for (const [script, reason, deadlineMs] of [
    ['echo no terminal >&2; exit 3', /ended with status 3: no terminal/, 10_000],
    ['sleep 60', /did not end within 200 ms and was killed/, 200],
  ] as const) {
    const { events, wish } = await teller(t, script);
    const what = { ...WHAT, deadlineMs };
    const announcement = new Announcement(wish({ graceMs: 3_600_000 }), what);
    await announcement.before();
    t.regex(announcement.warnings.join(), reason);
    await announcement.over();
    t.deepEqual(await events(), ['before']);
    const required = new Announcement(wish({ isRequired: true }), what);
    await refused(t, required.before(), 'hook', reason);
    await required.failed();
    t.deepEqual(await events(), ['before', 'before', 'failed'], 'some may have been told');
  }
  const missing = new Announcement({ program: '/nowhere/tell', graceMs: 0, isRequired: false }, WHAT);
  await missing.before();
  t.regex(missing.warnings.join(), /nobody could be told of the backup: \/nowhere\/tell can't be started/);
});

test('a program that can not even be tried to start leaves nothing behind, before the instant and after it', async (t) => {
  const { wish, events } = await teller(t);
  // Node throws for such a name, as it does without memory.
  const impossible = { ...wish(), program: '/nowhere\0' };
  const before = new Announcement(impossible, WHAT);
  await before.before();
  t.regex(before.warnings.join(), /nobody could be told of the backup: .* can't be started/);
  const changing = { ...wish() };
  const after = new Announcement(changing, WHAT);
  await after.before();
  Object.assign(changing, impossible);
  await after.over();
  t.regex(after.warnings.join(), /that the instant is over: .* can't be started/);
  t.deepEqual(await events(), ['before']);
});

async function holding(t: ExecutionContext, options: Omit<FakeDiskOptions, 'log'>, graceMs = 0) {
  const tell = await teller(t);
  const disk = new FakeDisk('a', { ...options, log: [] });
  const scene = await hookScene(t);
  const hooks = [await scene.script('one', WELL_BEHAVED)];
  const rest = { name: 'srv', hooks, freeze: 'none' as const, announce: tell.wish({ graceMs }) };
  const provider = snapshotsOf('fake', (_path, held) => disk.prepare(held), rest);
  return {
    ...tell,
    disk,
    hooked: () => scene.log(),
    hold: (signal?: AbortSignal) => provider.hold('/disk', { ...HOLD, signal }),
  };
}

test('users are told before hooks, and again right after the instant', async (t) => {
  const { events, disk, hooked, hold } = await holding(t, {});
  const seen: unknown[] = [];
  disk.before = {
    close: async () => void seen.push(await events(), (await hooked()).length),
    cut: async () => void seen.push(await events()),
  };
  const snapshot = await hold();
  t.deepEqual(seen, [['before'], 1, ['before']]);
  t.deepEqual(await events(), ['before', 'over']);
  await snapshot.release();
  t.deepEqual(await events(), ['before', 'over']);
});

test('an instant that fails, or is cancelled in the grace time, is taken back, and nothing is left', async (t) => {
  const failing = await holding(t, {});
  failing.disk.before = {
    cut: () => {
      throw new Error('not now');
    },
  };
  await t.throwsAsync(failing.hold(), { message: 'not now' });
  t.deepEqual(await failing.events(), ['before', 'failed']);

  const waiting = await holding(t, {}, 3_600_000);
  const stop = new AbortController();
  const held = waiting.hold(stop.signal);
  held.catch(() => undefined);
  while ((await waiting.events()).length === 0) await sleep(10);
  stop.abort();
  await refused(t, held, 'cancelled', /cancelled/);
  t.deepEqual(await waiting.events(), ['before', 'failed']);
  t.deepEqual(await waiting.hooked(), [], 'no hook was started');
  t.true(waiting.disk.isFree && failing.disk.isFree);
});

test('an instant that is tried again is told once; passes catch up after the grace time', async (t) => {
  const { events, disk, hold } = await holding(t, { isLate: true, barrier: 'freeze' });
  disk.mayTryAgain = true;
  let tries = 0;
  disk.before = {
    cut: () => {
      tries += 1;
      if (tries < 3) throw new Error('not now');
    },
  };
  const snapshot = await hold();
  t.deepEqual(await events(), []);
  await snapshot.passes?.next();
  t.is(await snapshot.passes?.take(), null, 'told, and no try yet');
  t.is(tries, 0);
  t.is(await snapshot.passes?.take(), null);
  t.is(await snapshot.passes?.take(), null);
  t.deepEqual(await events(), ['before']);
  t.truthy(await snapshot.passes?.take());
  t.deepEqual(await events(), ['before', 'over']);
  await snapshot.release();
  t.deepEqual(await events(), ['before', 'over']);

  const given = await holding(t, { isLate: true, barrier: 'freeze' });
  const late = await given.hold();
  await late.passes?.take();
  await late.release();
  t.deepEqual(await given.events(), ['before', 'failed'], 'given up before its instant');
  const unused = await holding(t, { barrier: 'unused' });
  await (await unused.hold()).release();
  t.deepEqual(await unused.events(), [], 'nobody writes to it');
});
