/**
 * Random histories against the simplest model there is: an array of what the device held at each committed
 * point. Writes, resizes, backups, kills and failures at random durable steps, lost and damaged local trees,
 * lost indexes, restores. Whatever happens, the store's points are exactly those of the model, and each
 * restores to exactly its bytes.
 */
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import { stampedBlock } from '../helpers/bytes/stamped-blocks.js';
import { filesBelow, flipBit } from '../helpers/disks/images.js';
import { runFaulty } from '../helpers/faults/at-step.js';
import {
  IN_MEMORY,
  lastResult,
  type Machine,
  makeMachine,
  type Outcome,
  runHere,
} from '../helpers/machines/stillpoint.js';
import { LONG, type Random, seededRandom } from '../helpers/seed.js';

const OPERATIONS = LONG ? 2000 : 70;
const UNIT = 4 * KiB;
const SIZE_MAX = 192 * UNIT;

/** How often each happens, in parts of the sum. */
const WEIGHTS = {
  write: 30,
  backup: 16,
  kill: 14,
  failure: 6,
  restore: 10,
  restoreOver: 4,
  resize: 5,
  blockSize: 1,
  loseTree: 3,
  damageTree: 4,
  loseIndex: 2,
  verify: 3,
} as const;
type Operation = keyof typeof WEIGHTS;

class Model {
  readonly history: string[] = [];
  /** What the device held at each committed point; sequence - 1 is the place. */
  readonly states: Buffer[] = [];
  device: Buffer;
  blockSize = '16K';
  /** Names blocks that were written later as others. */
  generation = 0;

  constructor(
    readonly random: Random,
    readonly machine: Machine,
    readonly at: (name: string) => string,
  ) {
    this.device = Buffer.alloc(UNIT * (1 + random.below(100)) + 512 * random.below(8));
  }

  get store(): string {
    return this.at('store');
  }

  get backupArgs(): string[] {
    return [
      'backup',
      this.at('device'),
      '--store',
      this.store,
      '--name',
      'disk',
      '--block-size',
      this.blockSize,
      '--json',
    ];
  }

  async save(): Promise<void> {
    // In place: a new file would be another device.
    await writeFile(this.at('device'), this.device, { flag: 'r+' }).catch(() =>
      writeFile(this.at('device'), this.device),
    );
    await truncate(this.at('device'), this.device.length);
  }

  async expect(result: Outcome, code: number = 0): Promise<Outcome> {
    if (result.code !== code) {
      throw new Error(
        `exit code ${result.code ?? result.signal}, not ${code}\n${result.stdout}${result.stderr}`,
      );
    }
    return result;
  }

  async listed(): Promise<Point[]> {
    const result = await runHere(this.machine, 'points', '--store', this.store, '--json');
    if (this.states.length === 0 && result.stdout.includes('"store-missing"')) return [];
    await this.expect(result);
    return lastResult<{ points: Point[] }>(result.stdout).points;
  }

  /** The run may have come through or not, whatever it said; a run that said so has. */
  async settle(committed: boolean): Promise<void> {
    const { length } = await this.listed();
    if (length === this.states.length + 1) this.states.push(Buffer.from(this.device));
    else if (length !== this.states.length) throw new Error(`${length} points, not ${this.states.length}`);
    else if (committed) throw new Error('an acknowledged point is not listed');
  }

  async restore(sequence: number, target: string, ...args: string[]): Promise<void> {
    await this.expect(
      await runHere(
        this.machine,
        'restore',
        `disk@${sequence}`,
        target,
        '--store',
        this.store,
        '--json',
        ...args,
      ),
    );
    const expected = this.states[sequence - 1];
    if (expected === undefined || !(await readFile(target)).equals(expected)) {
      throw new Error(`disk@${sequence} restores wrong bytes`);
    }
  }
}

const ACTIONS: Record<Operation, (model: Model) => Promise<void>> = {
  write: async (model) => {
    const { random, device } = model;
    model.generation += 1;
    for (let count = 1 + random.below(6); count > 0; count -= 1) {
      const from = random.below(device.length);
      const length = Math.min(device.length - from, random.pick([1, 512, UNIT, 5 * UNIT, 20 * UNIT]));
      const kind = random.below(4);
      if (kind === 0) device.fill(0, from, from + length);
      else if (kind === 1) device.copy(device, from, random.below(device.length), device.length);
      else {
        const stamp = { seed: random.seed, blockIndex: random.below(1000), generation: model.generation };
        stampedBlock(stamp, length).copy(device, from);
      }
    }
    await model.save();
  },
  resize: async (model) => {
    const grown = Buffer.alloc(1 + model.random.below(SIZE_MAX));
    model.device.copy(grown);
    model.device = grown;
    await model.save();
  },
  blockSize: async (model) => {
    model.blockSize = model.random.pick(['4K', '16K', '64K']);
  },
  backup: async (model) => {
    await model.expect(await runHere(model.machine, ...model.backupArgs));
    await model.settle(true);
  },
  kill: async (model) => {
    const at = 1 + model.random.below(90);
    const result = await runFaulty(model.machine, { fault: 'kill', at }, model.backupArgs);
    if (result.signal !== 'SIGKILL') await model.expect(result);
    await model.settle(result.code === 0);
  },
  failure: async (model) => {
    const fault = model.random.pick(['EIO', 'ENOSPC'] as const);
    const at = 1 + model.random.below(90);
    const forever = model.random.below(2) === 0;
    const result = await runFaulty(model.machine, { fault, at, forever }, model.backupArgs);
    if (result.code === null) throw new Error(`died of ${result.signal}\n${result.stderr}`);
    await model.settle(result.code === 0);
  },
  restore: async (model) => {
    if (model.states.length === 0) return;
    await rm(model.at('restored'), { force: true });
    await model.restore(1 + model.random.below(model.states.length), model.at('restored'));
  },
  restoreOver: async (model) => {
    if (model.states.length === 0) return;
    const sequence = 1 + model.random.below(model.states.length);
    // A target of the right size, full of something else.
    await writeFile(model.at('over'), Buffer.alloc(model.states[sequence - 1]?.length ?? 0, 0xa5));
    await model.restore(sequence, model.at('over'), '--overwrite');
  },
  loseTree: async (model) => {
    for (const path of await localTrees(model)) await rm(path);
  },
  damageTree: async (model) => {
    for (const path of await localTrees(model)) await flipBit(path, model.random);
  },
  loseIndex: async (model) => {
    await rm(join(model.store, 'index'), { recursive: true, force: true });
  },
  verify: async (model) => {
    if (model.states.length === 0) return;
    await model.expect(await runHere(model.machine, 'verify', '--store', model.store, '--json'));
  },
};

async function localTrees(model: Model): Promise<string[]> {
  return (await filesBelow(model.machine.stateDirectory)).filter((path) => path.endsWith('/tree'));
}

function chooseOperation(random: Random): Operation {
  let left = random.below(Object.values(WEIGHTS).reduce((sum, weight) => sum + weight, 0));
  for (const [operation, weight] of Object.entries(WEIGHTS)) {
    left -= weight;
    if (left < 0) return operation as Operation;
  }
  return 'write';
}

async function runHistory(t: ExecutionContext): Promise<void> {
  t.timeout(60 * 60_000);
  const random = seededRandom(t);
  const machine = await makeMachine(t, 'model', IN_MEMORY);
  const model = new Model(random, machine, (name) => join(machine.directory, name));
  await model.save();
  try {
    for (let number = 0; number < OPERATIONS; number += 1) {
      const operation = number === 0 ? 'backup' : chooseOperation(random);
      model.history.push(operation);
      await ACTIONS[operation](model);
    }
    await ACTIONS.backup(model);
    for (const sequence of model.states.keys()) {
      await rm(model.at('restored'), { force: true });
      await model.restore(sequence + 1, model.at('restored'));
    }
    await ACTIONS.verify(model);
  } catch (error) {
    t.fail(`seed ${random.seed}, after ${model.history.join(' ')}: ${(error as Error).message}`);
  }
  t.log(`${model.history.length} operations, ${model.states.length} points`);
  t.true(model.states.length > 5);
}

test('random histories agree with an array of states', runHistory);
