/**
 * The process of a tap, over a fake native tap: starts, stops, kills, and what the map is worth after them.
 */
import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { connectTap } from '../../src/tap/control/client.js';
import { serveTap } from '../../src/tap/daemon.js';
import { findTap } from '../../src/tap/find.js';
import { reportOf, startProcess, stopTap } from '../../src/tap/launch.js';
import { addTap, type RegisteredTap } from '../../src/tap/registry/registry.js';
import type { TapSettings } from '../../src/tap/registry/settings.js';
import { type FakeTap, type FakeTapAddon, fakeTapAddon } from '../helpers/fakes/tap.js';
import { holdAtOnce } from '../helpers/machines/hold-at-once.js';
import { refused } from '../helpers/refused.js';
import { makeTap, makeTapPlace, SILENT, settingsFor } from '../helpers/worlds/taps.js';

const HOLD = {
  ...{
    sessionId: '0123456789abcdef'.repeat(2),
    basePointId: null,
    full: true,
    readBlockSize: 65_536,
    sampleBlocks: [],
  },
};

interface Served {
  readonly native: FakeTap;
  stop(): Promise<void>;
}

/** Serves in this process, until stopped. */
async function serve(tap: RegisteredTap, addon: FakeTapAddon = fakeTapAddon()): Promise<Served> {
  const stopped = new AbortController();
  const served = serveTap({ tap, addon, log: SILENT, signal: stopped.signal });
  const failed = served.then(
    () => 'ended',
    (error: unknown) => error,
  );
  while ((await reportOf(tap)) === null) {
    const early = await Promise.race([failed, sleep(10, null)]);
    if (early !== null) throw early;
  }
  const native = addon.taps.at(-1);
  if (native === undefined) throw new Error('nothing was made');
  return {
    native,
    stop: async () => {
      stopped.abort();
      await served;
    },
  };
}

test('it listens, serves, and stops in order; the sockets go, the map is closed with a mark', async (t) => {
  const { place, tap } = await makeTap(t);
  const { native, stop } = await serve(tap);
  t.deepEqual((await findTap(place.directory, place.image))?.running, true);
  const report = await reportOf(tap);
  t.like(report, { name: 'disk', exportName: 'disk', processId: process.pid, listen: tap.settings.listen });
  t.is((await stat(tap.settings.runDirectory)).mode & 0o777, 0o700);
  t.like(native.options, { path: place.image, blockSize: 65_536, readOnly: false, mapPath: tap.mapPath });
  t.is(native.options.distrust, undefined);
  await stop();
  t.deepEqual(native.calls, ['listenSnapshot', `listen ${tap.settings.listen[0]} disk`, 'stop', 'close']);
  t.is(await reportOf(tap), null);
  t.regex(await readFile(tap.mapPath, 'utf8'), /"clean":true,"continuity":"image /);
});

test('stopped and started, the map is believed; unless the image was written to in between', async (t) => {
  const { place, tap } = await makeTap(t);
  const addon = fakeTapAddon();
  const distrust = async (): Promise<string | undefined> => {
    const { native, stop } = await serve(tap, addon);
    await stop();
    return native.options.distrust;
  };
  t.is(await distrust(), undefined);
  t.is(await distrust(), undefined);
  const file = await open(place.image, 'r+');
  await file.write('past the tap');
  await file.close();
  t.regex((await distrust()) ?? '', /changed or replaced/);
  t.is(await distrust(), undefined);
  await writeFile(tap.mapPath, 'nonsense');
  t.regex((await distrust()) ?? '', /can't be used/);
});

test('a hold gets the preserve area of the settings, which is made', async (t) => {
  const { tap } = await makeTap(t, { preserveMaxBytes: 4096, whenFull: 'throttle' });
  const { native, stop } = await serve(tap);
  const control = await connectTap(tap.controlPath);
  t.is((await holdAtOnce(control, HOLD)).snapshotAddress, `unix:${tap.snapshotPath}`);
  const { preserveDirectory } = tap.settings;
  t.deepEqual(native.holds, [{ ...HOLD, preserveDirectory, preserveMaxBytes: 4096, whenFull: 'throttle' }]);
  t.true((await stat(preserveDirectory)).isDirectory());
  control.close();
  await stop();
});

test('stopped while a snapshot is held: aborted first', async (t) => {
  const { tap } = await makeTap(t);
  const { native, stop } = await serve(tap);
  const control = await connectTap(tap.controlPath);
  await holdAtOnce(control, HOLD);
  await stop();
  t.deepEqual(native.calls.slice(-4), ['hold', 'abort', 'stop', 'close']);
});

test('one process per tap, and a source that nobody else writes to', async (t) => {
  const { place, tap } = await makeTap(t);
  const { stop } = await serve(tap);
  const once = { tap, addon: fakeTapAddon(), log: SILENT, signal: AbortSignal.abort() };
  await refused(t, serveTap(once), 'device-in-use', /a process serves it/);
  await stop();
  const writer = await open(place.image, 'r+');
  await refused(t, serveTap(once), 'device-in-use', /missed/);
  await writer.close();
  await (await serve(tap)).stop();
});

test('a place where somebody else listens, or something lies, is left to them', async (t) => {
  const place = await makeTapPlace(t);
  const path = join(place.directory, 'nbd.sock');
  const tap = await addTap(place.directory, settingsFor(place, { listen: [`unix:${path}`] }));
  const once = (): Promise<void> =>
    serveTap({ tap, addon: fakeTapAddon(), log: SILENT, signal: AbortSignal.abort() });
  await writeFile(path, 'precious');
  await refused(t, once(), 'device-in-use', /something other than a socket/);
  t.is(await readFile(path, 'utf8'), 'precious');
  const other = join(place.directory, 'other.sock');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(other, resolve));
  const busy = { ...tap, settings: { ...tap.settings, listen: [`unix:${other}`] } };
  await refused(
    t,
    serveTap({ tap: busy, addon: fakeTapAddon(), log: SILENT, signal: AbortSignal.abort() }),
    'device-in-use',
    /another process listens/,
  );
  await new Promise((resolve) => server.close(resolve));
});

const SERVE = fileURLToPath(new URL('./children/serve.js', import.meta.url));

async function launched(
  t: ExecutionContext,
  changes: Partial<TapSettings> = {},
): Promise<{ readonly tap: RegisteredTap; readonly command: string[]; readonly directory: string }> {
  const { place, tap } = await makeTap(t, changes);
  t.teardown(() => stopTap(tap));
  return { tap, directory: place.directory, command: [process.execPath, SERVE, place.directory, 'disk'] };
}

test('a process of its own: started, killed, started again with the map of the killed one, stopped', async (t) => {
  const { tap, command } = await launched(t);
  const first = await startProcess(tap, command);
  t.not(first.processId, process.pid);
  process.kill(first.processId, 'SIGKILL');
  while ((await reportOf(tap)) !== null) await sleep(10);
  // The sockets that it has left are in nobody's way, and its map counts: the machine has run on.
  const second = await startProcess(tap, command);
  t.is(second.status.map.reason, 'no point yet');
  await stopTap(tap);
  t.is(await reportOf(tap), null);
  t.regex(await readFile(tap.mapPath, 'utf8'), /"clean":true/);
  await stopTap(tap);
});

test('killed, and the record of its start gone: the map does not count', async (t) => {
  const { tap, command } = await launched(t);
  process.kill((await startProcess(tap, command)).processId, 'SIGKILL');
  while ((await reportOf(tap)) !== null) await sleep(10);
  await writeFile(tap.startedPath, '');
  t.regex((await startProcess(tap, command)).status.map.reason, /not known when it was started/);
});

test('a process that can not serve says why to the one that starts it', async (t) => {
  const { tap, command, directory } = await launched(t);
  const writer = await open(join(directory, 'disk.img'), 'r+');
  await refused(t, startProcess(tap, command), 'device-in-use', /disk\.img: it is open for writing/);
  await writer.close();
  await refused(
    t,
    startProcess(tap, [process.execPath, '-e', 'process.exit(7)']),
    'device-io',
    /exit code 7/,
  );
  await refused(t, startProcess(tap, [join(directory, 'no-such-program')]), 'device-io', /ENOENT/);
});
