import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { inspectDevice } from '../../../src/capture/choice/inspect.js';
import { encodeMark } from '../../../src/devices/facts/half-restored.js';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import { freezable } from '../../helpers/disks/freezable.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { fakeProvider } from '../../helpers/fakes/provider.js';
import { makeMachine, runHere } from '../../helpers/machines/stillpoint.js';
import { testWith } from '../../helpers/requirements.js';
import { answerOn, makeTap } from '../../helpers/worlds/taps.js';

test('an image that nobody uses: offline, unless a running tap serves it', async (t) => {
  const path = join(await temporaryDirectory(t, 'inspect'), 'disk.img');
  await writeFile(path, Buffer.alloc(100_000, 1));
  const inspection = await inspectDevice(path, null);
  t.like(inspection, {
    sizeBytes: 100_000,
    identity: { type: 'image', path, logicalSectorSize: 512 },
    uses: [],
    filesystems: [],
    notes: [],
    chosen: 'offline',
  });
  const { place, tap } = await makeTap(t, { name: 'vm1', sourcePath: path });
  const stopped = await inspectDevice(path, place.directory);
  t.is(stopped.chosen, 'offline');
  t.deepEqual(stopped.providers[0], {
    provider: 'tap',
    usable: false,
    reason: 'its tap vm1 does not run',
    remedy: 'Start it: stillpoint tap start vm1',
    kinds: ['application', 'filesystem', 'crash', 'idle'],
    changes: 'the map of the tap; only what it names is read',
    cost: 'all that reads and writes it goes through the tap',
  });
  await answerOn(t, tap.controlPath);
  const running = await inspectDevice(path, place.directory);
  t.is(running.chosen, 'tap');
  t.like(running.providers[0], { usable: true, remedy: null });
});

test('what is shown is the list of providers, in its order, and the first that can take it is chosen', async (t) => {
  const path = join(await temporaryDirectory(t, 'inspect'), 'disk.img');
  await writeFile(path, Buffer.alloc(4096));
  const { providers, chosen } = await inspectDevice(path, null, [
    fakeProvider('a', { refusal: 'it sleeps' }),
    fakeProvider('b', {}),
    fakeProvider('c', {}),
  ]);
  t.deepEqual(
    providers.map(({ provider, usable, reason, remedy }) => [provider, usable, reason, remedy]),
    [
      ['a', false, 'it sleeps', 'Wake it.'],
      ['b', true, 'b can', null],
      ['c', true, 'c can', null],
    ],
  );
  t.is(chosen, 'b');
});

testWith(
  ['root', 'loop'],
  'a mounted device: who uses it, what would be frozen, and that only a tap could take it',
  async (t) => {
    const { device, image, mountPoint } = await freezable(t, 'ext4');
    const inspection = await inspectDevice(device, null);
    t.is(inspection.chosen, null);
    t.deepEqual(
      inspection.uses.map(({ how }) => how),
      [`mounted at ${mountPoint}`],
    );
    t.deepEqual(
      inspection.filesystems.map(({ path, type }) => [path, type]),
      [[mountPoint, 'ext4']],
    );
    t.is(
      inspection.providers.find(({ provider }) => provider === 'offline')?.reason,
      `it is mounted at ${mountPoint}, and could change while it is read`,
    );
    t.is((await inspectDevice(image, null)).chosen, null);
  },
);

test('what is no device', async (t) => {
  for (const path of ['/nonexistent', '/tmp', '/dev/null']) {
    const error = await t.throwsAsync(inspectDevice(path, null));
    t.true(isStillpointError(error, 'device-not-found'), path);
  }
});

test('the command, for people and for programs', async (t) => {
  const machine = await makeMachine(t);
  const path = join(machine.directory, 'disk.img');
  await writeFile(path, Buffer.alloc(65_536));
  const { code, stdout } = await runHere(machine, 'inspect', path);
  t.is(code, 0);
  const lines = stdout.trimEnd().split('\n');
  t.is(lines[0], `${path}: image of 64 KiB (65536 bytes), sectors of 512 bytes`);
  t.true(lines.includes('Used: by nobody, as far as is known'));
  t.true(lines.includes('  tap: no, no tap serves it'));
  t.is(lines.at(-1), 'It would be backed up with "offline".');
  const result = JSON.parse((await runHere(machine, 'inspect', path, '--json')).stdout) as object;
  t.like(result, { event: 'result', device: path, sizeBytes: 65_536, chosen: 'offline' });
  t.is((await runHere(machine, 'inspect', '/nonexistent')).code, 1);
  const point = { id: '0f'.repeat(16), root: '1e'.repeat(32), agent: 'web1', device: 'disk', sequence: 1 };
  const geometry = { sizeBytes: 65_536, blockSize: 65_536 };
  await writeFile(path, encodeMark({ ...point, geometry } as Point, new Date()), { flag: 'r+' });
  t.regex((await runHere(machine, 'inspect', path)).stdout, /\nIt would not be backed up: .*\n$/);
});
