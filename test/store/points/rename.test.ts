/** An agent gets another name: killed, or out of power, at any step, it is done again and nothing is lost. */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { StepDisk } from '../../helpers/faults/step-disk.js';
import {
  backUp,
  change,
  changesBetween,
  type DeviceState,
  describe,
  emptyState,
  holds,
  leavesOf,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const stateOf = (n: number): DeviceState => change(EMPTY, [[n, 10 + n]]);
const LEFT = stateOf(50);

const open = (dir: string, disk: Disk = nodeDisk) => openStore(dir, { disk });

for (const power of [null, 0]) {
  const way = power === null ? 'killed' : 'power lost';
  test(`a rename, ${way} at any step, is finished when it is done again`, async (t) => {
    const template = join(await tempDir(t), 'template');
    await createStore(template);
    const store = await open(template);
    const points: Point[] = [];
    for (const [device, n] of [
      ['disk', 1],
      ['disk', 2],
      ['other', 3],
    ] as const)
      points.push(await backUp(store, device, device === 'disk' && n === 2 ? stateOf(1) : null, stateOf(n)));
    const capture = await store.createCapture(describe('disk', EMPTY, null));
    await sendChanges(capture, changesBetween(null, LEFT));
    await t.throwsAsync(store.renameAgent('alpha', 'beta'), { code: 'session-busy' });
    await capture.abort();
    await store.close();

    const place = await tempDir(t);
    for (let failing = 1; ; failing += 1) {
      const dir = join(place, String(failing));
      await cp(template, dir, { recursive: true });
      const faulty = await StepDisk.make(t, failing, 'crash', power !== null);
      const store = await open(dir, faulty.disk);
      faulty.start();
      await store.renameAgent('alpha', 'beta').catch(() => undefined);
      const isOver = faulty.fired === null;
      await store.close().catch(() => undefined);
      await faulty.losePower(0);

      const what = `step ${failing}`;
      const again = await open(dir);
      for (const [at, point] of points.entries()) {
        const found = await again.point(null, point.id);
        t.true(
          found !== null && (await holds(again, found, stateOf(at + 1))),
          `${what}: before it is done again`,
        );
      }
      await again.renameAgent('alpha', 'beta');
      await again.renameAgent('alpha', 'beta');
      const check = async (opened: typeof again) => {
        t.deepEqual(await opened.points({ agent: 'alpha' }), [], what);
        t.deepEqual(
          await opened.points({ agent: 'beta' }),
          points.map((point) => ({ ...point, agent: 'beta' })),
          what,
        );
        for (const [at, { id }] of points.entries()) {
          const found = await opened.point('beta', id);
          t.true(found !== null && (await holds(opened, found, stateOf(at + 1))), what);
        }
        t.is((await opened.partialSets({ agent: 'beta' })).length, 1, what);
        t.deepEqual(opened.deviceNames('alpha'), [], what);
      };
      await check(again);
      // What the agent delivered before is held for it under its new name.
      const next = await again.createCapture({ ...describe('disk', EMPTY, null), agent: 'beta' });
      const digests = [stateOf(1), LEFT].flatMap((state) => [...leavesOf(state).values()]);
      t.is((await next.have(Buffer.concat(digests))).size, 2, what);
      await next.abort();
      await again.close();
      const reopened = await open(dir);
      await check(reopened);
      for await (const event of reopened.verify({}))
        t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
      const base = await reopened.baseFor({ agent: 'beta', device: 'disk' });
      t.is(base?.sequence, 2);
      await reopened.close();
      t.deepEqual(
        (await listFiles(dir)).filter((name) => /^points(-copy)?\/alpha\/.*\d$/.test(name)),
        [],
        what,
      );
      await rm(dir, { recursive: true });
      if (isOver) break;
    }
  });
}
