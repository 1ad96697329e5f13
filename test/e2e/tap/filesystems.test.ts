/**
 * ext4 and XFS over a tap, written to all the time: each point mounts, checks clean, and has every file
 * that was on disk before it.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { checkFilesystem, FILESYSTEM_PROGRAMS, makeFilesystem } from '../../helpers/disks/filesystem.js';
import { attachLoop, detachLoop, mount } from '../../helpers/disks/loop-device.js';
import { attachTapDevice, TAP_DEVICE_NEEDS } from '../../helpers/disks/tap-device.js';
import { testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';
import { TapWorld } from '../../helpers/worlds/tap.js';

const WRITER = fileURLToPath(new URL('../children/file-writer.js', import.meta.url));
const SIZE_BYTES = { ext4: 96 * MiB, xfs: 320 * MiB };
const POINTS = LONG ? 30 : 4;
/** Files that the writer makes before the first point, and from each to the next. */
const FILES_BETWEEN = 8;

interface Lifetime {
  on: bigint;
  off: bigint | null;
}

function startWriter(t: ExecutionContext, directory: string) {
  const child = spawn(process.execPath, [WRITER, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => void child.kill('SIGKILL'));
  const exited = once(child, 'close');
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  /** Waits until so many more files were on disk. */
  const hasMade = async (count: number) => {
    const made = () => text.split('"on"').length;
    for (const enough = made() + count; made() < enough; await sleep(20)) {
      if (child.exitCode !== null) throw new Error(`the writer ended with exit code ${child.exitCode}`);
    }
  };
  const lifetimes = () => {
    const files = new Map<string, Lifetime>();
    for (const line of text
      .slice(0, text.lastIndexOf('\n') + 1)
      .trimEnd()
      .split('\n')) {
      const { name, on, off } = JSON.parse(line) as { name: string; on?: string; off?: string };
      const file = files.get(name);
      if (file === undefined) files.set(name, { on: BigInt(on ?? 0), off: null });
      else file.off = BigInt(off ?? 0);
    }
    return files;
  };
  const stop = async () => {
    child.kill('SIGKILL');
    await exited;
  };
  return { lifetimes, hasMade, stop };
}

async function isWhole(path: string): Promise<boolean> {
  const bytes = await readFile(path);
  return createHash('sha256').update(bytes.subarray(32)).digest().equals(bytes.subarray(0, 32));
}

for (const filesystem of ['ext4', 'xfs'] as const) {
  const programs = FILESYSTEM_PROGRAMS[filesystem].map((program) => ({ program }));
  testWith(
    [...TAP_DEVICE_NEEDS, ...programs],
    `${filesystem} over a tap, written to all the time`,
    async (t) => {
      t.timeout(20 * 60_000);
      const world = await TapWorld.make(t, SIZE_BYTES[filesystem]);
      const at = (name: string) => join(world.directory, name);
      await world.start();
      const device = await attachTapDevice(t, world);
      makeFilesystem(filesystem, device);
      const unmount = await mount(t, device, at('mounted'));
      const writer = startWriter(t, at('mounted'));
      const made: Point[] = [];
      for (let index = 0; index < POINTS; index += 1) {
        await writer.hasMade(FILES_BETWEEN);
        const frozen = index % 2 === 1;
        const freeze = frozen ? [at('mounted')] : ('none' as const);
        const { point, warnings } = await world.backup({ quiesce: { name: 'disk', hooks: [], freeze } });
        t.deepEqual([point.kind, warnings], [frozen ? 'filesystem' : 'crash', []]);
        made.push(point);
      }
      await writer.stop();
      unmount();
      const files = [...writer.lifetimes()];
      let expected = 0;
      for (const point of made) {
        const { from, to } = world.instantOf(point);
        const restored = attachLoop(t, await world.restore(point));
        const leave = await mount(t, restored, at('restored'), filesystem === 'xfs' ? 'nouuid' : 'defaults');
        const found = new Set(await readdir(at('restored')));
        for (const [name, { on, off }] of files) {
          if (on >= from || (off !== null && off <= to)) continue;
          expected += 1;
          t.true(found.has(name), `${name} was on disk before point ${point.sequence}`);
          t.true(await isWhole(join(at('restored'), name)), `${name} of point ${point.sequence}`);
        }
        leave();
        checkFilesystem(filesystem, restored);
        detachLoop(restored);
      }
      t.true(expected >= FILES_BETWEEN, `${expected} files were expected`);
      t.log(`${files.length} files, ${expected} expected in ${made.length} points`);
    },
  );
}
