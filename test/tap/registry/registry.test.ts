import { mkdir, readdir, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { connectTap } from '../../../src/tap/control/client.js';
import { findTap } from '../../../src/tap/find.js';
import {
  addTap,
  listTaps,
  lockTap,
  readTap,
  removeTap,
  runDirectoryOf,
} from '../../../src/tap/registry/registry.js';
import { attachLoop } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';
import { makeTap, makeTapPlace, settingsFor } from '../../helpers/worlds/taps.js';

test('a tap comes back as it was added, and goes without a trace', async (t) => {
  const { place, tap } = await makeTap(t);
  t.deepEqual(await readTap(place.directory, 'disk'), tap);
  t.deepEqual(await listTaps(place.directory), [tap]);
  await writeFile(tap.mapPath, 'map');
  await mkdir(tap.settings.runDirectory, { recursive: true });
  await removeTap(place.directory, tap);
  t.deepEqual(await listTaps(place.directory), []);
  await refused(t, readTap(place.directory, 'disk'), 'device-unknown', /no tap of this name/);
  t.deepEqual(await readdir(join(place.directory, 'taps')), ['lock']);
  t.deepEqual(await readdir(join(place.directory, 'run')), []);
});

test('without taps there is an empty list', async (t) => {
  const place = await makeTapPlace(t);
  t.deepEqual(await listTaps(place.directory), []);
  t.is(await findTap(place.directory, place.image), null);
});

test('names are checked before they become paths', async (t) => {
  const place = await makeTapPlace(t);
  for (const name of ['', '../x', 'a/b', '.hidden', 'x'.repeat(65)]) {
    await refused(t, readTap(place.directory, name), 'bad-name');
    await refused(t, addTap(place.directory, settingsFor(place, { name })), 'bad-name');
    t.throws(() => runDirectoryOf('/run/stillpoint', name), { code: 'bad-name' });
  }
  t.is(runDirectoryOf('/run/stillpoint', 'vm1'), '/run/stillpoint/taps/vm1');
  t.throws(() => runDirectoryOf(`/${'long/'.repeat(20)}`, 'vm1'), { code: 'usage', message: /107 bytes/ });
});

test('one name, one tap; one source, one tap, however it is called', async (t) => {
  const { place } = await makeTap(t);
  const add = (changes: object) => addTap(place.directory, settingsFor(place, changes));
  const other = join(place.directory, 'other.img');
  await writeFile(other, 'other');
  await refused(t, add({ sourcePath: other }), 'config', /there already is one/);
  await refused(t, add({ name: 'second' }), 'device-in-use', /the tap disk already serves it/);
  const link = join(place.directory, 'link.img');
  await symlink(place.image, link);
  await refused(t, add({ name: 'second', sourcePath: link }), 'device-in-use');
  await add({ name: 'second', sourcePath: other });
  t.deepEqual(
    (await listTaps(place.directory)).map(({ settings }) => settings.name),
    ['disk', 'second'],
  );
});

testWith(['root', 'loop'], 'a block device has one tap under all of its names', async (t) => {
  const { place } = await makeTap(t);
  const device = attachLoop(t, join(place.directory, 'disk.img'));
  const link = join(place.directory, 'by-name');
  await symlink(device, link);
  await addTap(place.directory, settingsFor(place, { name: 'loop', sourcePath: link }));
  await refused(
    t,
    addTap(place.directory, settingsFor(place, { name: 'again', sourcePath: device })),
    'device-in-use',
  );
  t.is((await findTap(place.directory, device))?.tap.settings.name, 'loop');
});

test('a tap that is served can not be removed', async (t) => {
  const { place, tap } = await makeTap(t);
  const lock = await lockTap(tap);
  await refused(t, lockTap(tap), 'device-in-use', /a process serves it/);
  await refused(t, removeTap(place.directory, tap), 'device-in-use');
  t.is((await listTaps(place.directory)).length, 1);
  await lock.close();
  await removeTap(place.directory, tap);
});

test('a new tap takes nothing from one whose adding or removing died', async (t) => {
  const place = await makeTapPlace(t);
  await mkdir(join(place.directory, 'taps', 'disk'), { recursive: true });
  await writeFile(join(place.directory, 'taps', 'disk', 'map'), 'of another time');
  t.deepEqual(await listTaps(place.directory), []);
  const tap = await addTap(place.directory, settingsFor(place));
  t.deepEqual(await readdir(tap.directory), ['tap.json']);
});

test('damaged settings are told, and not guessed', async (t) => {
  const { place, tap } = await makeTap(t);
  await writeFile(join(tap.directory, 'tap.json'), '{}');
  await refused(t, readTap(place.directory, 'disk'), 'config', /tap\.json: it is not a stillpoint tap/);
});

test('a tap is found by what it serves, also through a link, and after the file has moved under it', async (t) => {
  const { place, tap } = await makeTap(t);
  const link = join(place.directory, 'link.img');
  await symlink(place.image, link);
  for (const path of [place.image, link]) {
    t.deepEqual(await findTap(place.directory, path), { tap, running: false });
  }
  const other = join(place.directory, 'other.img');
  await writeFile(other, 'other');
  t.is(await findTap(place.directory, other), null);
  await rename(other, place.image);
  t.deepEqual(await findTap(place.directory, place.image), { tap, running: false });
  await refused(t, findTap(place.directory, join(place.directory, 'nowhere')), 'device-not-found');
  await refused(t, connectTap(tap.controlPath), 'unreachable');
});
