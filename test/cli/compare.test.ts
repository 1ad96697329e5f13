/** `compare`: what people and programs read, damage at the receiver and its repair. */
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_DAMAGED, EXIT_DIFFERS, EXIT_OK, EXIT_WARNINGS } from '../../src/cli/output/exit-codes.js';
import { KiB } from '../../src/domain/base/limits.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../src/native/index.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { makeStampedImage, stampedBlock } from '../helpers/bytes/stamped-blocks.js';
import { flipRecords } from '../helpers/faults/pack-damage.js';
import {
  IN_MEMORY,
  lastResult,
  type Machine,
  makeMachine,
  type Outcome,
  runHere,
} from '../helpers/machines/stillpoint.js';

const BLOCK = 4096;
const COUNT = 300;
/** The last one is short. */
const SIZE = COUNT * BLOCK - 512;
const INDEXES = [...Array.from({ length: 128 }, (_, index) => index), 200, COUNT - 1];

interface Told {
  readonly differingBlocks: number | null;
  readonly damagedBlocks: number;
  readonly unreadableBlocks: number;
  readonly wireBytes: number;
  readonly ranges: readonly { byteOffset: number; byteLength: number; what: string; reason?: string }[];
  readonly shipped: { readonly sequence: number; readonly statistics: { changedBytes: number } } | null;
}

interface Scene {
  readonly machine: Machine;
  readonly store: string;
  readonly image: string;
  run(command: string, ...args: string[]): Promise<Outcome>;
  compare(code: number, ...args: string[]): Promise<Told>;
  write(blockIndexes: readonly number[], generation: number): Promise<void>;
  /** Verifies all, or the point alone, and restores it. */
  isWhole(point: string, all?: boolean): Promise<void>;
}

const contentOf = (blockIndex: number, generation = 0) =>
  stampedBlock({ seed: 4, blockIndex, generation }, Math.min(BLOCK, SIZE - blockIndex * BLOCK));
const leafOf = (blockIndex: number) => PLAIN.leafDigest(contentOf(blockIndex));

/** With one point. */
async function scene(t: ExecutionContext): Promise<Scene> {
  const machine = await makeMachine(t, 'compare', IN_MEMORY);
  const [store, image] = [join(machine.directory, 'store'), join(machine.directory, 'disk')];
  await makeStampedImage(image, { sizeBytes: SIZE, blockSize: BLOCK, seed: 4, blockIndexes: INDEXES });
  const run: Scene['run'] = (command, ...args) => runHere(machine, command, ...args, '--store', store);
  const named = ['--name', 'disk'];
  const made = await run('backup', image, ...named, '--block-size', '4K');
  t.is(made.code, EXIT_OK, made.stderr);
  return {
    ...{ machine, store, image, run },
    compare: async (code, ...args) => {
      const { code: actual, stdout, stderr } = await run('compare', image, ...named, ...args, '--json');
      t.is(actual, code, `${stdout}${stderr}`);
      t.is(stderr, '');
      return lastResult<Told>(stdout);
    },
    write: async (blockIndexes, generation) => {
      const file = await open(image, 'r+');
      for (const block of blockIndexes)
        await file.write(contentOf(block, generation), 0, undefined, block * BLOCK);
      await file.close();
    },
    isWhole: async (point, all = true) => {
      const verified = await run('verify', ...(all ? [] : [point]));
      t.is(verified.code, EXIT_OK, verified.stdout);
      const target = join(machine.directory, 'restored');
      const restored = await run('restore', point, target);
      t.is(restored.code, EXIT_OK, restored.stderr);
      t.true((await readFile(target)).equals(await readFile(image)));
    },
  };
}

test('people read ranges and a summary, scripts the exit code, programs all of it', async (t) => {
  const { machine, image, run, compare, write } = await scene(t);
  const same = await run('compare', image, '--name', 'disk');
  t.is(same.code, EXIT_OK, same.stderr);
  t.regex(same.stdout, /^disk@1: no block differs; 1\.17 MiB digested, \d+ B(ytes)? on the wire\n$/);
  await write([3, 4, COUNT - 1], 1);
  const differs = await run('compare', image, 'disk@1', '--name', 'disk');
  t.is(differs.code, EXIT_DIFFERS, differs.stderr);
  t.deepEqual(differs.stdout.split('\n').slice(0, 3), [
    ' OFFSET  LENGTH  WHAT',
    '  12288    8192  differs',
    '1224704    3584  differs',
  ]);
  t.regex(
    differs.stdout.split('\n')[3] ?? '',
    /^disk@1: 3 blocks differ, 12 KiB; 1\.17 MiB digested, .* on the wire$/,
  );

  const told = await compare(EXIT_DIFFERS);
  t.like(told, {
    differingBlocks: 3,
    damagedBlocks: 0,
    unreadableBlocks: 0,
    shipped: null,
    blockSize: BLOCK,
  });
  t.like(told, {
    point: { device: 'disk', sequence: 1 },
    deviceSizeBytes: SIZE,
    scannedBytes: SIZE,
    kind: 'idle',
  });
  t.deepEqual(told.ranges, [
    { byteOffset: 3 * BLOCK, byteLength: 2 * BLOCK, what: 'differs' },
    { byteOffset: (COUNT - 1) * BLOCK, byteLength: BLOCK - 512, what: 'differs' },
  ]);
  for (const digests of ['from-receiver', 'from-agent'])
    t.is((await compare(EXIT_DIFFERS, '--digests', digests)).differingBlocks, 3);
  t.is((await compare(EXIT_OK, '--ranges', '0-12K,20K-1M')).differingBlocks, 0);
  const part = await compare(EXIT_DIFFERS, '--ranges', '16385-16386,1M-');
  t.deepEqual(
    part.ranges.map(({ byteOffset }) => byteOffset),
    [4 * BLOCK, (COUNT - 1) * BLOCK],
  );

  await write(
    Array.from({ length: 60 }, (_, i) => 2 * i),
    2,
  );
  const many = (await run('compare', image, '--name', 'disk')).stdout.split('\n');
  t.is(many.length, 1 + 50 + 2 + 1);
  t.regex(many[51] ?? '', /^and \d+ more ranges; --all shows them$/);
  const shipped = await compare(EXIT_OK, '--ship');
  t.is(shipped.shipped?.sequence, 2);
  t.is((await compare(EXIT_OK)).differingBlocks, 0);
  t.deepEqual((await readdir(machine.stateDirectory)).sort(), ['known-stores', 'stores'], 'nothing stays');
});

test('--deep: rotten blocks are the receiver’s fault; --ship sends just them, and all is whole again', async (t) => {
  const { store, compare, write, isWhole } = await scene(t);
  t.is((await compare(EXIT_OK, '--deep')).damagedBlocks, 0);
  for (const block of [5, 6, 200]) await flipRecords(store, RECORD_KIND_BLOCK, leafOf(block));
  t.is((await compare(EXIT_OK)).damagedBlocks, 0, 'its tree is right');
  const told = await compare(EXIT_DAMAGED, '--deep');
  t.is(told.differingBlocks, 0);
  t.is(told.damagedBlocks, 3);
  t.deepEqual(
    told.ranges.map(({ byteOffset, byteLength, what }) => [byteOffset, byteLength, what]),
    [
      [5 * BLOCK, 2 * BLOCK, 'damaged'],
      [200 * BLOCK, BLOCK, 'damaged'],
    ],
  );
  for (const { reason } of told.ranges) t.regex(reason ?? '', /of pack [0-9a-f]{32} is damaged/);
  await write([9], 1);
  const healed = await compare(EXIT_WARNINGS, '--deep', '--ship');
  t.is(healed.damagedBlocks, 3);
  t.is(healed.differingBlocks, null, 'there was nothing to compare with');
  t.is(healed.shipped?.sequence, 2);
  // Four blocks; the whole point took ten times as much.
  t.true(healed.wireBytes < 24 * KiB, `${healed.wireBytes}`);
  t.like(await compare(EXIT_OK, '--deep'), { differingBlocks: 0, damagedBlocks: 0 });
  t.like(await compare(EXIT_DIFFERS, 'disk@1', '--deep'), { differingBlocks: 1, damagedBlocks: 0 });
  await isWhole('disk@2');
});

test('--deep: under a damaged node nothing can be compared, around it all is; --ship heals it', async (t) => {
  const { store, compare, write, isWhole, run, image } = await scene(t);
  const node = PLAIN.nodeDigest(Buffer.concat(Array.from({ length: 64 }, (_, i) => leafOf(64 + i))));
  await flipRecords(store, RECORD_KIND_NODE, node);
  await write([7, 70], 1);
  const shallow = await run('compare', image, '--name', 'disk');
  t.is(shallow.code, EXIT_DAMAGED, shallow.stdout);
  t.regex(shallow.stderr, /^error: .*damaged/m);
  const told = await compare(EXIT_DAMAGED, '--deep');
  t.is(told.damagedBlocks, 64);
  t.deepEqual(
    told.ranges.map(({ byteOffset, byteLength, what }) => [byteOffset, byteLength, what]),
    [
      [7 * BLOCK, BLOCK, 'differs'],
      [64 * BLOCK, 64 * BLOCK, 'damaged'],
    ],
  );
  const people = await run('compare', image, '--name', 'disk', '--deep');
  t.regex(people.stdout, / {2}damaged at the receiver: a node of the tree of disk@1 can't be read: /);
  t.regex(people.stdout, /disk@1: 1 block differs, 4 KiB; 64 blocks damaged at the receiver; /);
  t.is((await compare(EXIT_WARNINGS, '--deep', '--ship')).shipped?.sequence, 2);
  t.like(await compare(EXIT_OK, '--deep'), { differingBlocks: 0, damagedBlocks: 0 });
  await isWhole('disk@2', false);
  // What the device does not hold any more can't come back.
  t.is((await compare(EXIT_DAMAGED, 'disk@1', '--deep')).damagedBlocks, 64);
});
