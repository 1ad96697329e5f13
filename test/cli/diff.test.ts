/** `diff`: what people and programs read of the changes between two points. */
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_OK, EXIT_USAGE } from '../../src/cli/output/exit-codes.js';
import { makeMachine, type Outcome, runHere } from '../helpers/machines/stillpoint.js';

const BLOCK = 4096;

/** Backs up one state of an image after the other. @returns runs `diff` on the points. */
async function withPoints(
  t: ExecutionContext,
  states: readonly Buffer[],
): Promise<(...args: string[]) => Promise<Outcome>> {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  for (const state of states) {
    await writeFile(image, state, { flag: 'r+' }).catch(() => writeFile(image, state));
    await truncate(image, state.length);
    const args = ['--name', 'disk', '--block-size', '4K', '--store', store];
    const { code, stderr } = await runHere(machine, 'backup', image, ...args);
    t.is(code, EXIT_OK, stderr);
  }
  return (...args) => runHere(machine, 'diff', ...args, '--store', store);
}

function image(blocks: number, filled: Readonly<Record<number, string>>): Buffer {
  const bytes = Buffer.alloc(blocks * BLOCK);
  for (const [block, text] of Object.entries(filled))
    bytes.fill(text, Number(block) * BLOCK, (Number(block) + 1) * BLOCK);
  return bytes;
}

test('people read ranges, then totals', async (t) => {
  const diff = await withPoints(t, [
    image(100, { 1: 'a', 2: 'a', 3: 'a', 50: 'a' }),
    image(100, { 1: 'b', 3: 'a', 60: 'b' }),
    image(120, { 1: 'b', 3: 'a', 60: 'b', 119: 'c' }),
  ]);
  const { code, stdout, stderr } = await diff('disk@1', 'disk@2');
  t.is(code, EXIT_OK, stderr);
  t.deepEqual(stdout.split('\n'), [
    'OFFSET  LENGTH  ZERO',
    '  4096    8192  1 block',
    '204800    4096  all',
    '245760    4096  -',
    'disk@1 to disk@2: 16 KiB changed, 4 blocks in 3 ranges, of which 2 blocks became zero',
    '',
  ]);
  t.is(stderr, '');
  t.is((await diff('disk@1', 'disk@2', '--quiet')).stdout, stdout);
  t.is((await diff('disk@2', 'disk@2')).stdout, 'disk@2 to disk@2: nothing changed\n');
  t.regex(
    (await diff('disk@2', 'disk@latest')).stdout,
    /\n487424 +4096 {2}-\ndisk@2 to disk@3: 4 KiB changed, 1 block in 1 range; the device grew from 400 KiB to 480 KiB\n$/,
  );
  t.regex(
    (await diff('disk@3', 'disk@2')).stdout,
    /4096 {2}-\n.*; the device shrank from 480 KiB to 400 KiB\n$/,
  );
});

test('of many ranges people read some, with --all every one; programs read all of them', async (t) => {
  const blocks = Array.from({ length: 70 }, (_, i) => 2 * i);
  const diff = await withPoints(t, [
    image(200, {}),
    image(200, Object.fromEntries(blocks.map((block) => [block, 'x']))),
  ]);
  const some = (await diff('disk@1', 'disk@2')).stdout.split('\n');
  t.is(some.length, 1 + 50 + 2 + 1);
  t.is(some[51], 'and 20 more ranges; --all shows them');
  t.is(some[52], 'disk@1 to disk@2: 280 KiB changed, 70 blocks in 70 ranges');
  const all = (await diff('disk@1', 'disk@2', '--all')).stdout.split('\n');
  t.is(all.length, 1 + 70 + 1 + 1);
  t.is(all[70], `${138 * BLOCK}    4096  -`);

  const { code, stdout, stderr } = await diff('disk@2', 'disk@1', '--json');
  t.is(code, EXIT_OK);
  t.is(stderr, '');
  const events = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string });
  t.deepEqual(
    events.filter(({ event }) => event === 'range'),
    blocks.map((block) => ({ event: 'range', byteOffset: block * BLOCK, byteLength: BLOCK, zeroBlocks: 1 })),
  );
  t.like(events.at(-1), {
    event: 'result',
    from: { device: 'disk', sequence: 2 },
    to: { device: 'disk', sequence: 1 },
    blockSize: BLOCK,
    rangeCount: 70,
    blockCount: 70,
    changedBytes: 70 * BLOCK,
    zeroBlockCount: 70,
  });
  t.is((await diff('disk@1')).code, EXIT_USAGE);
});
