import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { type ChooseOptions, chooseProvider } from '../../../src/capture/choice/choose.js';
import type { HoldOptions } from '../../../src/capture/ports.js';
import type { RestOptions } from '../../../src/capture/quiesce/rest.js';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { PROVIDER_NAMES, type ProviderName } from '../../../src/domain/device/provider-names.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { FakeDisk, fakeProvider } from '../../helpers/fakes/provider.js';
import { refused } from '../../helpers/refused.js';
import { answerOn, makeTap } from '../../helpers/worlds/taps.js';

const REST: RestOptions = { name: 'disk', hooks: [], freeze: 'auto' };
const OPTIONS: ChooseOptions = { stateDirectory: '/nonexistent', path: '/disk', rest: REST };
const wanted = (name: string): Pick<ChooseOptions, 'wanted'> => ({ wanted: name as ProviderName });

const HOLD: HoldOptions = {
  ...{ sessionId: '0'.repeat(32), basePointId: null, full: true, doubt: null, blockSize: 4096, fuzzy: false },
};

test('the first that can is taken, and prepared when a session asks for it', async (t) => {
  const disk = new FakeDisk('/disk');
  const list = [
    fakeProvider('a', { refusal: 'it sleeps' }),
    fakeProvider('b', { disk }),
    fakeProvider('c', {}),
  ];
  const { provider, note } = await chooseProvider(OPTIONS, list);
  t.is(provider.name, 'b');
  t.is(note, null);
  t.deepEqual(disk.log, []);
  const snapshot = await provider.hold('/disk', HOLD);
  t.is(snapshot.kind, 'crash');
  await snapshot.release();
  t.true(disk.isFree);
  t.is((await chooseProvider({ ...OPTIONS, ...wanted('c') }, list)).provider.name, 'c');
});

test('one that was set up and is passed over is told', async (t) => {
  const list = [
    fakeProvider('a', { refusal: 'a sleeps', isSetUp: true }),
    fakeProvider('b', { refusal: 'b is not there' }),
    fakeProvider('c', {}),
  ];
  t.is((await chooseProvider(OPTIONS, list)).note, '/disk: a sleeps; it is backed up with "c"');
});

test('forced by name, and not possible: its own reason; none is possible: that of the last', async (t) => {
  const list = [fakeProvider('a', { refusal: 'a sleeps' }), fakeProvider('b', { refusal: 'b is busy' })];
  const error = await t.throwsAsync(chooseProvider({ ...OPTIONS, ...wanted('a') }, list));
  t.true(isStillpointError(error, 'usage'));
  t.is(error?.message, '/disk: a sleeps. Wake it.');
  await refused(t, chooseProvider(OPTIONS, list), 'usage', /b is busy/);
});

test('hooks, freezing and quiet go with those that take devices in use, and with no other', async (t) => {
  const list = [fakeProvider('a', { refusal: 'a sleeps' }), fakeProvider('b', { takesDevicesInUse: false })];
  for (const change of [
    { hooks: ['/hook'] },
    { freeze: ['/srv'] },
    { quiet: { quietMs: 1, deadlineMs: 2 } },
  ] satisfies Partial<RestOptions>[]) {
    const options = { ...OPTIONS, rest: { ...REST, ...change } };
    await refused(t, chooseProvider(options, list), 'usage', /need a snapshot, and a sleeps\. Wake it\.$/);
    await refused(t, chooseProvider({ ...options, ...wanted('b') }, list), 'usage', /"b" holds none/);
    t.is((await chooseProvider(options, [fakeProvider('c', {}), ...list])).provider.name, 'c');
  }
  t.is((await chooseProvider({ ...OPTIONS, rest: { ...REST, freeze: 'none' } }, list)).provider.name, 'b');
});

test('mount points are not frozen around one that freezes by itself', async (t) => {
  const list = [{ ...fakeProvider('a', {}), freezesItself: true }];
  const rest = { ...REST, freeze: ['/srv'] };
  await refused(
    t,
    chooseProvider({ ...OPTIONS, rest }, list),
    'usage',
    /"a" freezes what is on it by itself/,
  );
  t.is((await chooseProvider(OPTIONS, list)).provider.name, 'a');
});

test('the real ones: a tap that runs, else the device as it is, unless somebody can write to it', async (t) => {
  t.deepEqual(PROVIDER_NAMES, ['tap', 'live', 'lvm', 'reflink', 'offline']);
  const { place, tap } = await makeTap(t, { name: 'vm1' });
  const options = { ...OPTIONS, stateDirectory: place.directory, path: place.image };
  const choose = (more: Partial<ChooseOptions> = {}) => chooseProvider({ ...options, ...more });
  t.like(await choose(), {
    provider: { name: 'offline' },
    note: `${place.image}: its tap vm1 does not run; it is read as it is`,
  });
  await refused(t, choose(wanted('tap')), 'usage', /its tap vm1 does not run\. Start it: /);
  const writer = await open(place.image, 'r+');
  await refused(
    t,
    choose(),
    'device-in-use',
    /it is open for writing by .*, and could change while it is read/,
  );
  t.is((await choose({ fuzzy: true })).provider.name, 'offline');
  await answerOn(t, tap.controlPath);
  t.like(await choose(), { provider: { name: 'tap' }, note: null });
  await refused(t, choose(wanted('offline')), 'device-in-use', /is open for writing/);
  await writer.close();
  t.is((await choose(wanted('offline'))).provider.name, 'offline');
});

test('where there is no such device, nobody takes it', async (t) => {
  const stateDirectory = await temporaryDirectory(t, 'choose');
  for (const name of [undefined, ...PROVIDER_NAMES]) {
    const options = { ...OPTIONS, stateDirectory, path: join(stateDirectory, 'none'), wanted: name };
    await refused(t, chooseProvider(options), 'device-not-found');
  }
  const plain = join(stateDirectory, 'plain');
  await writeFile(plain, 'x'.repeat(4096));
  await refused(
    t,
    chooseProvider({ ...OPTIONS, stateDirectory, path: plain, ...wanted('tap') }),
    'usage',
    /no tap serves it/,
  );
});
