/**
 * Two taps, each with a file system, written to in turn: one instant of both misses no write that
 * came before one that it has.
 */
import { spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { prepareAll, takeInstant } from '../../../src/capture/instant.js';
import type { Snapshot } from '../../../src/capture/ports.js';
import { prepareTap } from '../../../src/capture/providers/tap/tap.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { checkFilesystem, FILESYSTEM_PROGRAMS, makeFilesystem } from '../../helpers/disks/filesystem.js';
import { unfreeze } from '../../helpers/disks/freezable.js';
import { attachLoop, mount } from '../../helpers/disks/loop-device.js';
import { attachTapDevice, TAP_DEVICE_NEEDS } from '../../helpers/disks/tap-device.js';
import { testWith } from '../../helpers/requirements.js';
import { TapWorld } from '../../helpers/worlds/tap.js';

const WRITER = fileURLToPath(new URL('../children/turn-writer.js', import.meta.url));
const SIZE_BYTES = 32 * MiB;

async function mounted(t: ExecutionContext): Promise<{ readonly world: TapWorld; readonly path: string }> {
  const world = await TapWorld.make(t, SIZE_BYTES);
  await world.start();
  const device = await attachTapDevice(t, world);
  makeFilesystem('ext4', device);
  const path = join(world.directory, 'mounted');
  await mount(t, device, path);
  t.teardown(() => void unfreeze(path));
  return { world, path };
}

/** What the file of a snapshot's file system says, after a mount of a copy that is checked too. */
async function numberIn(
  t: ExecutionContext,
  snapshot: Snapshot,
  world: TapWorld,
  label: string,
): Promise<number> {
  const image = join(world.directory, `copy-${label}`);
  const copy = await open(image, 'w');
  for (let at = 0; at < SIZE_BYTES; at += MiB)
    await copy.write(await snapshot.device.read(at, MiB), 0, MiB, at);
  await copy.close();
  const device = attachLoop(t, image);
  const at = join(world.directory, `seen-${label}`);
  const leave = await mount(t, device, at);
  const number = Number(await readFile(join(at, 'number'), 'utf8'));
  leave();
  checkFilesystem('ext4', device);
  return number;
}

const programs = FILESYSTEM_PROGRAMS.ext4.map((program) => ({ program }));

testWith(
  [...TAP_DEVICE_NEEDS, ...programs],
  'two taps with file systems give one instant, frozen or not',
  async (t) => {
    const sides = [await mounted(t), await mounted(t)];
    const writer = spawn(process.execPath, [WRITER, ...sides.map(({ path }) => join(path, 'number'))]);
    t.teardown(() => void writer.kill('SIGKILL'));
    let written = 0;
    writer.stdout.on('data', (chunk: Buffer) => {
      written = Number(chunk.toString().trimEnd().split('\n').at(-1));
    });
    const further = async (): Promise<void> => {
      for (const enough = written + 6; written < enough; ) await sleep(10);
    };
    const freezes = ['none', sides.map(({ path }) => path)] as const;
    for (const [round, freeze] of freezes.entries()) {
      await further();
      const sessionId = String(round).padStart(32, '0');
      const hold = { sessionId, basePointId: null, full: true, doubt: null, blockSize: 65_536, fuzzy: false };
      const members = await prepareAll(
        sides.map(
          ({ world }) =>
            () =>
              prepareTap(world.tap, hold),
        ),
      );
      const snapshots = await takeInstant(members, { name: 'both', hooks: [], freeze });
      await further();
      const kind = freeze === 'none' ? 'crash' : 'filesystem';
      t.deepEqual(
        snapshots.map((snapshot) => [snapshot.kind, snapshot.warnings]),
        [
          [kind, []],
          [kind, []],
        ],
      );
      const numbers: number[] = [];
      for (const [index, { world }] of sides.entries()) {
        const snapshot = snapshots[index] as Snapshot;
        numbers.push(await numberIn(t, snapshot, world, `${round}-${index}`));
        const { facts } = await snapshot.conclude();
        t.true(typeof facts?.closedMs === 'number' && facts.closedMs < 10_000);
        t.is(typeof facts?.frozenMs, freeze === 'none' ? 'undefined' : 'number');
        await snapshot.release();
      }
      t.is(Math.abs((numbers[0] ?? 0) - (numbers[1] ?? 0)), 1, `round ${round}: ${numbers.join(', ')}`);
    }
    // Nothing is left closed or frozen.
    await further();
  },
);
