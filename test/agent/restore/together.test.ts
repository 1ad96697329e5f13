/** All points of a group point, each to its target: all are checked first; a failure says what it left. */
import { link, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { OnAgentEvent } from '../../../src/agent/common/events.js';
import type { RestoreOptions } from '../../../src/agent/restore/options.js';
import { restoreTogether } from '../../../src/agent/restore/together.js';
import { decodeMark } from '../../../src/devices/facts/half-restored.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { lockFile } from '../../../src/native/files.js';
import { attachLoop } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';
import { type RestoreWorld, restoreWorld } from '../../helpers/worlds/restore.js';

const BLOCK = 65_536;
const SIZE = 40 * BLOCK;

interface Together {
  readonly data: RestoreWorld;
  readonly wal: RestoreWorld;
  readonly steps: string[];
  at(name: string): string;
  restore(targets: readonly string[], options?: Partial<RestoreOptions>): ReturnType<typeof restoreTogether>;
}

async function together(t: ExecutionContext): Promise<Together> {
  const data = await restoreWorld(t);
  const wal = await restoreWorld(t, { blockIndexes: [0, 3, 4, 39] });
  const steps: string[] = [];
  const at = (name: string) => join(data.directory, name);
  const restore = (targets: readonly string[], options: Partial<RestoreOptions> = {}) =>
    restoreTogether({
      group: 'db@3',
      members: [data, wal].map(({ receiver, point, stateDirectory }, i) => ({
        name: ['data@7', 'wal@4'][i] ?? '',
        options: { receiver, point, stateDirectory, target: targets[i] ?? '', ...options },
      })),
      onMember: ({ name }, step) => steps.push(`${step} ${name}`),
    });
  return { data, wal, steps, at, restore };
}

const isThere = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

test('each point goes to its target, after all targets were looked at', async (t) => {
  const { data, wal, steps, at, restore } = await together(t);
  await writeFile(at('wal.img'), Buffer.alloc(SIZE, 7));
  const results = await restore([at('data.img'), at('wal.img')], { overwrite: true, verify: true });
  t.true(data.bytes.equals(await readFile(at('data.img'))));
  t.true(wal.bytes.equals(await readFile(at('wal.img'))));
  t.deepEqual(steps, ['check data@7', 'check wal@4', 'write data@7', 'write wal@4']);
  t.deepEqual(
    results.map(({ isVerified, differingBytes }) => [isVerified, differingBytes]),
    [
      [true, null],
      [true, SIZE],
    ],
  );
});

test('if one target is refused, none is written, and nothing is left', async (t) => {
  const { at, restore } = await together(t);
  const old = Buffer.alloc(SIZE, 7);
  await writeFile(at('old.img'), old);
  const lock = await lockFile(at('busy.img'));
  t.teardown(() => lock?.close());
  await refused(
    t,
    restore([at('data.img'), at('old.img')]),
    'usage',
    /not empty.*overwriting \(--overwrite\)\.$/,
  );
  await refused(t, restore([at('data.img'), at('none/wal.img')]), 'device-not-found');
  await refused(t, restore([at('old.img'), at('busy.img')], { overwrite: true }), 'device-in-use', /locked/);
  t.true(old.equals(await readFile(at('old.img'))));
  t.false(await isThere(at('data.img')));
  t.false(await isThere(at('data.img.stillpoint-partial')));
  // An image that would have been made longer, to hold the mark, is as it was.
  await writeFile(at('tiny.img'), 'tiny');
  await refused(t, restore([at('tiny.img'), at('busy.img')], { overwrite: true }), 'device-in-use');
  t.is(await readFile(at('tiny.img'), 'utf8'), 'tiny');
});

test('two targets that are the same are refused, by whatever name', async (t) => {
  const { at, restore } = await together(t);
  await refused(t, restore([at('a.img'), at('./a.img')]), 'usage', /a\.img and .*a\.img: they are the same/);
  await writeFile(at('one.img'), '');
  await link(at('one.img'), at('two.img'));
  await refused(t, restore([at('one.img'), at('two.img')]), 'usage', /so one would overwrite the other/);
  t.is((await stat(at('one.img'))).size, 0);
});

testWith(['root', 'loop'], 'a loop device and its image are the same target', async (t) => {
  const { at, restore } = await together(t);
  await writeFile(at('disk.img'), Buffer.alloc(SIZE));
  const loop = await attachLoop(t, at('disk.img'));
  await refused(
    t,
    restore([loop, at('disk.img')], { overwrite: true }),
    'usage',
    /one would overwrite the other/,
  );
});

testWith(['root', 'loop'], 'a device that is too small is found before the others are written', async (t) => {
  const { at, restore } = await together(t);
  const old = Buffer.alloc(SIZE, 7);
  await writeFile(at('large.img'), old);
  await writeFile(at('small.img'), Buffer.alloc(SIZE - BLOCK));
  const [large, small] = [await attachLoop(t, at('large.img')), await attachLoop(t, at('small.img'))];
  await refused(t, restore([large, small]), 'device-too-small');
  t.true(old.equals(await readFile(at('large.img'))));
});

test('a failure stops the rest, says what each target is now, and the same command continues', async (t) => {
  const { data, wal, at, restore } = await together(t);
  await writeFile(at('wal.img'), Buffer.alloc(SIZE, 7));
  const abort = new AbortController();
  let isWalWritten = false;
  const onEvent: OnAgentEvent = (event) => {
    if (event.type === 'phase' && event.phase === 'restore') {
      if (isWalWritten) abort.abort();
      isWalWritten = true;
    }
  };
  const failed = await t.throwsAsync(
    restore([at('data.img'), at('wal.img')], { overwrite: true, signal: abort.signal, onEvent }),
    { instanceOf: StillpointError },
  );
  t.is(failed?.code, 'cancelled');
  t.regex(
    failed?.message ?? '',
    /Of group point db@3: restored: data@7; .*wal@4\. The same command continues\.$/,
  );
  t.true(data.bytes.equals(await readFile(at('data.img'))));
  await restore([at('data.img'), at('wal.img')], { overwrite: true });
  t.true(wal.bytes.equals(await readFile(at('wal.img'))));
});

test('a target that is half restored is marked, and said to be so', async (t) => {
  const { data, wal, at, restore } = await together(t);
  await writeFile(at('wal.img'), Buffer.alloc(SIZE, 7));
  const { receiver } = wal;
  const blocks = receiver.blocks.bind(receiver);
  let calls = 0;
  Object.assign(receiver, {
    blocks: (...args: Parameters<typeof blocks>) => {
      calls += 1;
      if (calls > 1) throw new StillpointError('store-damaged', { thing: 'a block', reason: 'it is lost' });
      return blocks(...args);
    },
  });
  const failed = await t.throwsAsync(restore([at('data.img'), at('wal.img')], { overwrite: true }), {
    instanceOf: StillpointError,
  });
  t.is(failed?.code, 'store-damaged');
  t.regex(failed?.message ?? '', /restored: data@7; half restored: wal@4\. The same command continues\.$/);
  t.not(decodeMark((await readFile(at('wal.img'))).subarray(0, 512)), null);
  Object.assign(receiver, { blocks });
  // Without --overwrite the image that is whole would be refused: the error says so.
  await writeFile(at('wal2.img'), '');
  calls = 0;
  Object.assign(receiver, {
    blocks: () =>
      Promise.reject(new StillpointError('store-damaged', { thing: 'a block', reason: 'it is lost' })),
  });
  const again = await t.throwsAsync(restore([at('data2.img'), at('wal2.img')]), {
    instanceOf: StillpointError,
  });
  t.regex(again?.message ?? '', /untouched: wal@4\. The same command with --overwrite continues\.$/);
  t.true(data.bytes.equals(await readFile(at('data2.img'))));
  t.is((await stat(at('wal2.img'))).size, 0);
});
