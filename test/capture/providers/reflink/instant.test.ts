/** What a clone holds of an image that is being written: one instant, to the single write. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { link, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { prepareAll, takeInstant } from '../../../../src/capture/instant.js';
import type { Member } from '../../../../src/capture/ports.js';
import { reflinkEntry } from '../../../../src/capture/providers/reflink/entry.js';
import { MiB } from '../../../../src/domain/base/limits.js';
import type { Device } from '../../../../src/native/index.js';
import { freezable } from '../../../helpers/disks/freezable.js';
import { refused } from '../../../helpers/refused.js';
import { programs, testWith } from '../../../helpers/requirements.js';
import { HOLD } from '../../../helpers/worlds/quiesce.js';
import { type CloningDisk, can, makeCloningDisk, useImage } from '../../../helpers/worlds/reflink.js';

const BLOCK = 4096;
const BLOCKS = 256;
/** The block of each write: all of them in turn. */
const STRIDE = 37;

/**
 * Writes its numbers, one after the other: through the page cache, past it, and through a mapping, of which
 * only one word is ever written at a time.
 */
const WRITER = `
import mmap, os, struct, sys
path = sys.argv[1]
buffered = os.open(path, os.O_RDWR)
direct = os.open(path, os.O_RDWR | os.O_DIRECT)
mapped = memoryview(mmap.mmap(buffered, ${BLOCKS * BLOCK})).cast('Q')
page = mmap.mmap(-1, ${BLOCK})
number = 0
print('begins', flush=True)
while True:
    number += 1
    block = number * ${STRIDE} % ${BLOCKS}
    if block % 3 == 0:
        mapped[block * ${BLOCK / 8}] = number
        continue
    page[:] = struct.pack('<Q', number) * ${BLOCK / 8}
    os.pwrite(buffered if block % 3 == 1 else direct, page, block * ${BLOCK})
`;

/** @returns the number of the last write; fails if it is not exactly the writes up to it. */
async function lastWrite(t: ExecutionContext, device: Device): Promise<number> {
  const bytes = await device.read(0, BLOCKS * BLOCK);
  const found = Array.from({ length: BLOCKS }, (_, block) => Number(bytes.readBigUInt64LE(block * BLOCK)));
  const last = Math.max(...found);
  const wanted = new Array<number>(BLOCKS).fill(0);
  for (let number = Math.max(1, last - BLOCKS + 1); number <= last; number += 1)
    wanted[(number * STRIDE) % BLOCKS] = number;
  t.deepEqual(found, wanted);
  for (let block = 0; block < BLOCKS; block += 1) {
    if (block % 3 === 0) continue;
    const whole = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
    if (!whole.subarray(8).equals(whole.subarray(0, -8))) t.fail(`block ${block} is torn`);
  }
  return last;
}

const prepareNow = async (disk: CloningDisk): Promise<Member> =>
  (await can(disk.probe())).prepare({ ...HOLD, sessionId: randomBytes(16).toString('hex') });

async function holdNow(disk: CloningDisk, rest: object = {}) {
  const members = await prepareAll([() => prepareNow(disk)]);
  const [snapshot] = await takeInstant(members, { name: 'x', hooks: [], freeze: 'auto', ...rest });
  if (snapshot === undefined) throw new Error('no snapshot');
  return snapshot;
}

for (const filesystem of ['xfs', 'btrfs'] as const) {
  testWith(
    ['root', 'loop', ...programs(`mkfs.${filesystem}`, 'python3')],
    `${filesystem}: a clone is the writes up to one of them, buffered, direct and mapped`,
    async (t) => {
      const disk = await makeCloningDisk(t, filesystem);
      await writeFile(disk.image, Buffer.alloc(BLOCKS * BLOCK));
      const writer = spawn('python3', ['-c', WRITER, disk.image], { stdio: ['ignore', 'pipe', 'inherit'] });
      t.teardown(() => writer.kill('SIGKILL'));
      await once(writer.stdout, 'data');
      let before = 0;
      for (let round = 0; round < 5; round += 1) {
        await sleep(30);
        const snapshot = await holdNow(disk);
        const last = await lastWrite(t, snapshot.device);
        t.true(last > before);
        t.is(await lastWrite(t, snapshot.device), last);
        t.like(await snapshot.conclude(), { kind: 'crash' });
        await snapshot.release();
        before = last;
      }
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    },
  );
}

testWith(
  ['root', 'loop', ...programs('mkfs.xfs', 'mkfs.ext4')],
  'file systems in the image are frozen, never the one below it',
  async (t) => {
    const made = await makeCloningDisk(t, 'xfs');
    const inside = await freezable(t, 'ext4', { within: made.mountPoint });
    // By a name that the loop device does not know, and with its state on what is frozen.
    const disk = { ...made, image: join(made.mountPoint, 'link.img') };
    await link(inside.image, disk.image);
    const request = { path: disk.image, stateDirectory: join(inside.mountPoint, 'state'), fuzzy: false };
    disk.probe = () => reflinkEntry.probe(request);
    const frozen = await holdNow(disk);
    t.is(frozen.kind, 'filesystem');
    const { facts } = await frozen.conclude();
    t.true(Number(facts?.frozenMs) > 0 && Number(facts?.closedMs) > 0 && Number(facts?.cloneMs) > 0);
    await frozen.release();
    // By name, or because it lies on another member of the instant.
    const asked = holdNow(disk, { freeze: [disk.mountPoint] });
    await refused(t, asked, 'usage', /can't be frozen: what takes the instant of .* writes to it/);
    const named = await holdNow(disk, { freeze: [inside.mountPoint] });
    t.is(named.kind, 'filesystem');
    await named.release();
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.xfs')],
  'quiet is seen in the times of the file; an image that nobody writes to is idle',
  async (t) => {
    const disk = await makeCloningDisk(t, 'xfs');
    await writeFile(disk.image, Buffer.alloc(MiB, 1));
    const writer = await useImage(t, disk);
    const quiet = { quietMs: 100, deadlineMs: 20_000 };
    const still = await holdNow(disk, { quiet });
    t.is(still.kind, 'idle');
    await still.release();
    let isOver = false;
    const busy = (async () => {
      while (!isOver) {
        await writer.write('x');
        await sleep(1);
      }
    })();
    const never = holdNow(disk, { quiet: { quietMs: 700, deadlineMs: 1_500 } });
    await refused(t, never, 'device-in-use', /never without a write for 700 ms/);
    isOver = true;
    await busy;
    t.is((await disk.clones()).length, 0);

    const left = await holdNow(disk);
    await left.conclude();
    await left.release();
    await writer.close();
    const idle = await holdNow(disk);
    t.is(idle.kind, 'idle');
    await idle.release();
    // Somebody begins to write while it is prepared.
    const members = await prepareAll([() => prepareNow(disk)]);
    await truncate(disk.image, MiB + 1);
    const [late] = await takeInstant(members, { name: 'x', hooks: [], freeze: 'auto' });
    t.is(late?.kind, 'crash');
    await late?.release();
  },
);
