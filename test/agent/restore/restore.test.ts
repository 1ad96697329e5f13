import { once } from 'node:events';
import { link, mkdir, open, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import type { OnAgentEvent } from '../../../src/agent/common/events.js';
import { type RestoreOptions, runRestore } from '../../../src/agent/restore/restore.js';
import { decodeMark } from '../../../src/devices/facts/half-restored.js';
import { type ErrorCode, StillpointError } from '../../../src/domain/base/errors.js';
import { MiB } from '../../../src/domain/base/limits.js';
import type { DeviceIdentity } from '../../../src/domain/point/point.js';
import { lockFile } from '../../../src/native/files.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import {
  type PointReceiver,
  type PointReceiverOptions,
  pointReceiver,
} from '../../helpers/fakes/point-receiver.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';

const BLOCK = 65_536;
/** With a short last block, zero runs at both ends of groups, and lone blocks. */
const GEOMETRY = { sizeBytes: 400 * BLOCK - 12_800, blockSize: BLOCK };
const INDEXES = [0, 1, 2, 5, ...Array.from({ length: 150 }, (_, i) => 40 + i), 300, 302, 399];
const BLOCK_IDENTITY: DeviceIdentity = { type: 'block', path: '/dev/x', logicalSectorSize: 512 };

interface World extends PointReceiver {
  readonly directory: string;
  readonly target: string;
  restore(options?: Partial<RestoreOptions>): ReturnType<typeof runRestore>;
}

async function world(t: ExecutionContext, options: Partial<PointReceiverOptions> = {}): Promise<World> {
  const directory = await temporaryDirectory(t, 'restore');
  const made = await pointReceiver(directory, { geometry: GEOMETRY, blockIndexes: INDEXES, ...options });
  t.teardown(() => made.close());
  const target = join(directory, 'target.img');
  const stateDirectory = join(directory, 'state');
  const restore = (overrides: Partial<RestoreOptions> = {}) =>
    runRestore({ receiver: made.receiver, point: made.point, target, stateDirectory, ...overrides });
  return { ...made, directory, target, restore };
}

/** Everything but the receiver's own tree. */
const leftIn = async (directory: string) =>
  (await readdir(directory)).filter((name) => !name.startsWith('receiver-tree')).sort();

test('a new image is the point, sparse where the point is zero, and nothing else is left', async (t) => {
  const { bytes, target, directory, restore } = await world(t);
  const result = await restore({ verify: true });
  t.true(bytes.equals(await readFile(target)));
  t.is(result.writtenBytes, INDEXES.length * BLOCK - 12_800);
  t.true(result.isVerified);
  const { blocks } = await stat(target);
  t.true(blocks * 512 < (INDEXES.length + 8) * BLOCK, `${blocks} sectors are allocated`);
  t.deepEqual(await leftIn(directory), ['state', 'target.img']);
  t.deepEqual(await readdir(join(directory, 'state')), []);
});

test('an empty file is filled', async (t) => {
  const { bytes, target, restore } = await world(t);
  await writeFile(target, '');
  await restore();
  t.true(bytes.equals(await readFile(target)));
});

test('a receiver that answers in parts is asked for the rest', async (t) => {
  const { bytes, target, restore, requests } = await world(t, { answerBlocksMax: 7 });
  await restore();
  t.true(bytes.equals(await readFile(target)));
  t.true(requests.length >= INDEXES.length / 7);
});

test('an image that is not empty is overwritten only on request, also where the point is zero', async (t) => {
  const { bytes, target, restore } = await world(t);
  for (const sizeBytes of [GEOMETRY.sizeBytes, 8 * MiB, 60 * MiB]) {
    await writeFile(target, Buffer.alloc(sizeBytes, 0xff));
    await refused(t, restore(), 'usage', /it exists and is not empty \(\d+ bytes\).*allow overwriting/);
    t.is((await stat(target)).size, sizeBytes);
    await restore({ overwrite: true, verify: true });
    t.true(bytes.equals(await readFile(target)));
  }
});

test('an image that somebody has open is refused unless told', async (t) => {
  const { bytes, target, restore } = await world(t);
  await writeFile(target, Buffer.alloc(GEOMETRY.sizeBytes, 1));
  const reader = await open(target, 'r');
  t.teardown(() => reader.close());
  await refused(t, restore({ overwrite: true }), 'device-in-use', /it is open for reading by .*\. Stop /);
  await restore({ overwrite: true, allowInUse: true });
  t.true(bytes.equals(await readFile(target)));
});

test('what is no device or image is refused', async (t) => {
  const { directory, restore } = await world(t);
  await refused(t, restore({ target: directory }), 'device-not-found', /it is a directory/);
  await refused(t, restore({ target: '/dev/null' }), 'device-not-found', /neither a block device nor/);
  await refused(
    t,
    restore({ target: join(directory, 'no', 'such') }),
    'device-not-found',
    /there is no such directory/,
  );
});

const failures: Record<string, [Partial<PointReceiverOptions>, ErrorCode]> = {
  'a wrong byte in a block': [
    {
      spoil: (body, number) => {
        if (number === 2) body[body.length - 1000] = (body[body.length - 1000] ?? 0) ^ 1;
        return body;
      },
    },
    'bad-batch',
  ],
  'blocks that were not asked for': [
    {
      spoil: (body, number) => {
        if (number === 2) body.writeBigUInt64LE(399n, 64);
        return body;
      },
    },
    'bad-batch',
  ],
  'an answer that is no batch': [
    { spoil: (body, number) => (number === 2 ? Buffer.alloc(10) : body) },
    'bad-batch',
  ],
  'a damaged store': [
    {
      onBlocks: (number) => {
        if (number === 2)
          throw new StillpointError('store-damaged', { thing: 'pack', reason: 'a bit flipped' });
      },
    },
    'store-damaged',
  ],
};

for (const [name, [options, code]] of Object.entries(failures)) {
  test(`${name}: no image appears, and the output is not completed`, async (t) => {
    const { directory, restore } = await world(t, options);
    await refused(t, restore(), code, /./);
    t.deepEqual(await leftIn(directory), ['state']);
    const output = new PassThrough();
    output.resume();
    const again = await world(t, options);
    await refused(t, again.restore({ target: '-', output }), code, /./);
  });
}

test('a passing failure of the link is waited for', async (t) => {
  const { bytes, target, restore } = await world(t, {
    onBlocks: (number) => {
      if (number === 2)
        throw new StillpointError('connection-lost', { thing: 'receiver', reason: 'gone', permanent: false });
    },
  });
  await restore();
  t.true(bytes.equals(await readFile(target)));
});

test('a target that is overwritten and not finished is said to be half restored; before the first write it is as it was', async (t) => {
  let abort = new AbortController();
  // The first request is the head's, the second one's answer would be written.
  const { target, restore } = await world(t, { onBlocks: (number) => number !== 2 && abort.abort() });
  const before = Buffer.alloc(MiB, 1);
  await writeFile(target, before);
  const warnings: string[] = [];
  const onEvent: OnAgentEvent = (event) => event.type === 'warning' && warnings.push(event.text);
  await refused(t, restore({ overwrite: true, signal: abort.signal, onEvent }), 'cancelled', /./);
  t.deepEqual(warnings, []);
  t.true(before.equals(await readFile(target)));

  abort = new AbortController();
  await refused(t, restore({ overwrite: true, signal: abort.signal, onEvent }), 'cancelled', /./);
  t.is(warnings.length, 1);
  t.regex(warnings[0] ?? '', new RegExp(`${target} is half restored, and marked so`));
  t.is(decodeMark(await readFile(target))?.point?.device, 'disk1');
});

test('cancelled, no image is left', async (t) => {
  const abort = new AbortController();
  const { directory, restore } = await world(t, { onBlocks: () => abort.abort() });
  await refused(t, restore({ signal: abort.signal }), 'cancelled', /cancelled/);
  t.deepEqual(await leftIn(directory), ['state']);
});

test('a partial image of a killed restore is made whole, that of a running one is not', async (t) => {
  const { bytes, target, directory, restore } = await world(t);
  await writeFile(`${target}.stillpoint-partial`, Buffer.alloc(60 * MiB, 1));
  await restore();
  t.true(bytes.equals(await readFile(target)));
  const second = { target: join(directory, 'second.img') };
  const results = await Promise.allSettled([restore(second), restore(second)]);
  t.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'rejected']);
  t.true(bytes.equals(await readFile(second.target)));
});

test('the tree that a killed restore was fetching is removed by the next one, that of a running one is not', async (t) => {
  const { directory, restore } = await world(t);
  const old = new Date(Date.now() - 120_000);
  for (const name of ['scratch-killed', 'scratch-running', 'scratch-fresh']) {
    await mkdir(join(directory, 'state', name), { recursive: true });
    await writeFile(join(directory, 'state', name, 'tree'), 'x');
    if (name === 'scratch-fresh') continue;
    await writeFile(join(directory, 'state', name, 'lock'), '');
    await utimes(join(directory, 'state', name), old, old);
  }
  const running = await lockFile(join(directory, 'state', 'scratch-running', 'lock'));
  await restore();
  t.deepEqual((await readdir(join(directory, 'state'))).sort(), ['scratch-fresh', 'scratch-running']);
  await running?.close();
});

test('a new image harms no other file, whatever lies at the name that it has until it is whole', async (t) => {
  const { bytes, target, directory, restore } = await world(t);
  const others = [`${target}.partial`, join(directory, 'precious')] as const;
  for (const path of others) await writeFile(path, 'precious');
  await symlink(others[1], `${target}.stillpoint-partial`);
  await refused(t, restore(), 'usage', /stillpoint-partial: it is in the way/);
  await rm(`${target}.stillpoint-partial`);
  await link(others[1], `${target}.stillpoint-partial`);
  await refused(t, restore(), 'usage', /stillpoint-partial: it is in the way/);
  await rm(`${target}.stillpoint-partial`);
  await restore();
  t.true(bytes.equals(await readFile(target)));
  for (const path of others) t.is(await readFile(path, 'utf8'), 'precious');
});

test('standard output gets every byte in order, also through a slow reader', async (t) => {
  const { bytes, restore } = await world(t, { answerBlocksMax: 11 });
  const output = new PassThrough({ highWaterMark: 1000 });
  const chunks: Buffer[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk));
  const result = await restore({ target: '-', output });
  output.end();
  await once(output, 'end');
  t.true(bytes.equals(Buffer.concat(chunks)));
  t.is(result.writtenBytes, bytes.length);
  await refused(t, restore({ target: '-', output, verify: true }), 'usage', /can.t be read back/);
});

test('standard output that closes early is an error, not a hang', async (t) => {
  const { restore } = await world(t);
  const output = new PassThrough({ highWaterMark: 1000 });
  const ended = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  output.once('readable', () => setTimeout(() => output.destroy(ended), 50));
  await refused(t, restore({ target: '-', output }), 'system', /standard output: its reader has ended/);
});

test('progress reaches the size, and bad ranges are told', async (t) => {
  const { restore } = await world(t, {
    point: { badRanges: [{ byteOffset: 512, byteLength: 1024, content: 'filler' }] },
  });
  const doneBytes: number[] = [];
  const warnings: string[] = [];
  const result = await restore({
    onEvent: (event) => {
      if (event.type === 'progress') doneBytes.push(event.doneBytes);
      if (event.type === 'warning') warnings.push(event.text);
    },
  });
  t.is(doneBytes.at(-1), GEOMETRY.sizeBytes);
  t.deepEqual(warnings, [
    'disk1@1: 1024 bytes at byte 512 could not be read when it was taken; they hold a marker, no data',
  ]);
  t.deepEqual(result.warnings, warnings);
});

async function filledLoop(
  t: ExecutionContext,
  directory: string,
  sizeBytes: number,
  sectorSize: 512 | 4096 = 512,
) {
  const image = join(directory, `loop-${sizeBytes}.img`);
  await writeFile(image, Buffer.alloc(sizeBytes, 0xff));
  return { image, loop: attachLoop(t, image, { sectorSize }) };
}

const SECTORS = { sizeBytes: 400 * BLOCK - 12_288, blockSize: BLOCK };

for (const sectorSize of [512, 4096] as const) {
  testWith(
    ['root', 'loop'],
    `a block device with ${sectorSize}-byte sectors that held other data`,
    async (t) => {
      const { bytes, directory, restore } = await world(t, {
        geometry: SECTORS,
        point: { identity: { ...BLOCK_IDENTITY, logicalSectorSize: sectorSize } },
      });
      const { image, loop } = await filledLoop(t, directory, SECTORS.sizeBytes + 16_384, sectorSize);
      const notices: string[] = [];
      await restore({
        target: loop,
        verify: true,
        onEvent: (event) => {
          if (event.type === 'notice') notices.push(event.text);
        },
      });
      run('sync');
      const restored = await readFile(image);
      t.true(bytes.equals(restored.subarray(0, bytes.length)));
      t.true(restored.subarray(bytes.length).every((byte) => byte === 0xff));
      t.deepEqual(notices, [`${loop} is larger than the point; its last 16384 bytes stay as they are`]);
    },
  );
}

testWith(
  ['root', 'loop'],
  'a block device of another sector size, or too small, is refused and not touched',
  async (t) => {
    const { directory, restore } = await world(t, { geometry: SECTORS, point: { identity: BLOCK_IDENTITY } });
    const other = await filledLoop(t, directory, SECTORS.sizeBytes, 4096);
    await refused(
      t,
      restore({ target: other.loop }),
      'device-sector-size',
      /have 4096 bytes, the point's 512/,
    );
    const small = await filledLoop(t, directory, SECTORS.sizeBytes - 4096);
    await refused(t, restore({ target: small.loop }), 'device-too-small', /Choose a larger device/);
    run('sync');
    for (const { image } of [other, small]) t.true((await readFile(image)).every((byte) => byte === 0xff));
    await restore({ target: other.loop, allowSectorSize: true });
  },
);

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'a mounted target is refused and not touched',
  async (t) => {
    const { directory, restore } = await world(t, { geometry: SECTORS });
    const { loop } = await filledLoop(t, directory, 64 * MiB);
    run('mkfs.ext4', '-q', '-F', loop);
    const mountPoint = join(directory, 'mount');
    await mkdir(mountPoint);
    for (const options of ['rw', 'ro']) {
      const unmount = await mount(t, loop, mountPoint, options);
      await refused(t, restore({ target: loop }), 'device-in-use', /mounted .*Unmount it first/);
      unmount();
    }
    run('fsck.ext4', '-fn', loop);
    await restore({ target: loop });
  },
);
