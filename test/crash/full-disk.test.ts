/**
 * A disk that is really full: the store on a small tmpfs, with a little more room from run to run
 * until the backup passes.
 */
import { open, readdir, readFile, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB } from '../../src/domain/base/limits.js';
import { makeStampedImage, writeStamped } from '../helpers/bytes/stamped-blocks.js';
import { mount } from '../helpers/disks/loop-device.js';
import { makeMachine, runHere } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';
import { backupArgs, listPoints, restoredBytes } from '../helpers/worlds/crash.js';

const BLOCK = 16 * KiB;
const BLOCKS = 320;
const STEP = 512 * KiB;

testWith(
  ['root', { program: 'mount' }],
  'a full store refuses the backup, keeps its points, and goes on when there is room',
  async (t) => {
    const machine = await makeMachine(t, 'full');
    const at = (name: string) => join(machine.directory, name);
    const store = at('small/store');
    await mount(t, 'tmpfs', at('small'), 'size=24m', 'tmpfs');
    const stamp = (blockIndex: number, generation: number) => ({ seed: 3, blockIndex, generation });
    await makeStampedImage(at('source'), {
      sizeBytes: BLOCKS * BLOCK,
      blockSize: BLOCK,
      seed: 3,
      blockIndexes: [1, 2, 3],
    });
    const args = backupArgs(at('source'), store);
    const first = await runHere(machine, ...args);
    t.is(first.code, 0, first.stdout);
    const before = await readFile(at('source'));
    const file = await open(at('source'), 'r+');
    for (let index = 0; index < BLOCKS; index += 1) await writeStamped(file, stamp(index, 1), BLOCK);
    await file.close();

    // A ballast leaves nearly nothing at first.
    const ballast = at('small/ballast');
    const { bavail, bsize } = await statfs(at('small'));
    let ballastBytes = bavail * bsize - 64 * KiB;
    await writeFile(ballast, Buffer.alloc(ballastBytes, 1));
    let refused = 0;
    for (;;) {
      const result = await runHere(machine, ...args);
      const world = { machine, store };
      t.true((await restoredBytes(world, 'disk@1')).equals(before), 'the old point');
      const points = await listPoints(world);
      if (result.code === 0) {
        t.is(points.length, 2);
        t.true((await restoredBytes(world, 'disk@2')).equals(await readFile(at('source'))), 'the new point');
        break;
      }
      t.is(points.length, 1);
      t.regex(result.stdout, /"store-full"/);
      refused += 1;
      ballastBytes -= STEP;
      if (ballastBytes < 0) return t.fail('it never fits');
      await truncate(ballast, ballastBytes);
    }
    t.true(refused > 2, `${refused} refusals`);
    t.deepEqual(await readdir(join(store, 'capture')), []);
  },
);
