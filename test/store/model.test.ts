/**
 * Random sessions, aborts, crashes with power loss, and lost indexes, against a plain list of states.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../src/domain/base/errors.js';
import { KiB } from '../../src/domain/base/limits.js';
import { blockCount } from '../../src/domain/blocks/geometry.js';
import type { Point } from '../../src/domain/point/point.js';
import { nodeDisk } from '../../src/store/disk/disk.js';
import { createStore, openStore } from '../../src/store/open.js';
import type { Store } from '../../src/store/port/store.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { FaultyDisk, PowerLossDisk } from '../helpers/faults/disk.js';
import { type Random, seededRandom } from '../helpers/seed.js';
import {
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  emptyState,
  holds,
  sendChanges,
} from '../helpers/worlds/store-device.js';

const DEVICES = ['a', 'b'];
const ROUNDS = 60;
const packBytesTarget = 25 * KiB;

class Model {
  /** What each committed point must hold. */
  readonly states = new Map<string, DeviceState>();
  /** Sessions that were being committed when the store died: their points may exist. */
  readonly uncertain = new Map<string, DeviceState>();
  readonly last = new Map<string, string>();
  readonly #random: Random;
  #stamp = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  lastState(device: string): DeviceState | null {
    const id = this.last.get(device);
    return id === undefined ? null : (this.states.get(id) ?? null);
  }

  nextState(device: string): DeviceState {
    const random = this.#random;
    const last = this.lastState(device) ?? emptyState({ sizeBytes: 80 * 4 * KiB, blockSize: 4 * KiB });
    const geometry =
      random.below(10) < 2 ? { sizeBytes: random.below(150 * 4 * KiB), blockSize: 4 * KiB } : last.geometry;
    const count = blockCount(geometry);
    const changed = Array.from(
      { length: count === 0 ? 0 : random.below(25) },
      (): [number, number | null] => {
        this.#stamp += 1;
        const seed =
          random.below(10) < 2 ? null : random.below(10) < 3 ? random.below(10) + 1 : this.#stamp + 100;
        return [random.below(count), seed];
      },
    );
    const grownBlock =
      count > blockCount(last.geometry) || geometry === last.geometry ? [] : [[count - 1, null] as const];
    return change(last, count === 0 ? [] : [...grownBlock, ...changed], geometry);
  }

  /** As it may be before it is `state`: some of its blocks are other ones. */
  inBetween(state: DeviceState): DeviceState {
    const count = blockCount(state.geometry);
    const changed = Array.from(
      { length: count === 0 ? 0 : 1 + this.#random.below(8) },
      (): [number, number] => {
        this.#stamp += 1;
        return [this.#random.below(count), this.#stamp + 100];
      },
    );
    return change(state, changed);
  }

  commit(device: string, id: string, state: DeviceState): void {
    this.states.set(id, state);
    this.last.set(device, id);
  }
}

async function session(
  store: Store,
  model: Model,
  random: Random,
  device: string,
  end: 'commit' | 'abort' | 'leave',
): Promise<void> {
  for (const open of store.captures()) if (open.description.device === device) await open.abort();
  const state = model.nextState(device);
  const base = await store.baseFor({ agent: 'alpha', device });
  const capture = await store.createCapture(describe(device, state, base?.id ?? null));
  // Some of the sessions ship passes: of all that differs from the base by then, and of what changed
  // since, back to the base too.
  let sent = base === null ? null : model.lastState(device);
  let batchCount = 0;
  for (let pass = random.below(10) < 6 ? 0 : 1 + random.below(2); pass >= 0; pass -= 1) {
    const now = pass === 0 ? state : model.inBetween(state);
    batchCount = await sendChanges(capture, changesBetween(sent, now), 1 + random.below(6), batchCount + 1);
    sent = now;
  }
  if (end === 'abort') await capture.abort();
  if (end !== 'commit') return;
  model.uncertain.set(capture.description.sessionId, state);
  const point = await capture.commit(commitRequest(state, batchCount));
  model.uncertain.delete(point.id);
  model.commit(device, point.id, state);
}

async function check(t: ExecutionContext, store: Store, model: Model, what: string): Promise<void> {
  const points = await store.points({ agent: 'alpha' });
  for (const point of points) {
    const unsure = model.uncertain.get(point.id);
    if (unsure !== undefined) model.commit(point.device, point.id, unsure);
  }
  model.uncertain.clear();
  t.deepEqual(points.map(({ id }) => id).sort(), [...model.states.keys()].sort(), what);
  for (const point of points as Point[]) {
    const state = model.states.get(point.id);
    t.true(
      state !== undefined && (await holds(store, point, state)),
      `${what}: ${point.device}@${point.sequence}`,
    );
  }
  for (const device of DEVICES) {
    const sequences = points.filter((point) => point.device === device).map(({ sequence }) => sequence);
    t.deepEqual(
      sequences,
      sequences.map((_, i) => i + 1),
      what,
    );
  }
  for await (const event of store.verify({}))
    t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
}

test('whatever happens, the points are those that were committed', async (t) => {
  t.timeout(180_000);
  const random = seededRandom(t);
  const model = new Model(random);
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  let store = await openStore(dir, { packBytesTarget });
  for (let round = 1; round <= ROUNDS; round += 1) {
    const what = `round ${round}`;
    const device = random.pick(DEVICES);
    const end = random.pick(['commit', 'commit', 'commit', 'abort', 'leave'] as const);
    if (random.below(10) < 4) {
      // The same on a disk that fails at a random step, with or without loss of what was not synced.
      await store.close();
      const power = random.below(10) < 5 ? new PowerLossDisk(await tempDir(t)) : null;
      const dying = 20 + random.below(120);
      const disk = new FaultyDisk(power ?? nodeDisk, ({ number }) => (number === dying ? 'crash' : null));
      const dyingStore = await openStore(dir, { disk, packBytesTarget }).catch(() => null);
      if (dyingStore !== null) {
        await session(dyingStore, model, random, device, end).catch((error) => {
          if (!disk.hasCrashed || !isStillpointError(error)) throw error;
        });
        await dyingStore.close();
      }
      if (power !== null && disk.hasCrashed)
        await power.losePower(random.below(1000) / 1000, () => random.below(1000) / 1000);
      if (random.below(10) < 3) await rm(join(dir, 'index'), { recursive: true });
      store = await openStore(dir, { packBytesTarget });
      await check(t, store, model, what);
    } else {
      await session(store, model, random, device, end);
    }
  }
  await check(t, store, model, `at the end`);
  await store.close();
});
