/** What becomes of clones: which are believed, which are removed, and what a crash leaves. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, readdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { prepareAll, takeInstant } from '../../../../src/capture/instant.js';
import type { HoldOptions, Snapshot } from '../../../../src/capture/ports.js';
import { MiB } from '../../../../src/domain/base/limits.js';
import { refused } from '../../../helpers/refused.js';
import { programs, testWith } from '../../../helpers/requirements.js';
import { HOLD } from '../../../helpers/worlds/quiesce.js';
import { type CloningDisk, can, makeCloningDisk, useImage } from '../../../helpers/worlds/reflink.js';

const BLOCK = HOLD.blockSize;
const NEEDS = ['root', 'loop', ...programs('mkfs.xfs', 'xfs_io')] as const;
const REST = { name: 'x', hooks: [], freeze: 'none' } as const;

const id = (digit: number): string => digit.toString(16).repeat(32);

interface Scene extends CloningDisk {
  /** The clone beside the image, of that session. */
  clone(session: number): string;
  /** Clones, by their sessions' digits, and the records of them. */
  left(): Promise<{ clones: string; records: string }>;
  hold(session: number, base: number | null, more?: Partial<HoldOptions>): Promise<Snapshot>;
  /** @returns what differed from the base point; a string: why that is not known. */
  commit(session: number, base: number | null, more?: Partial<HoldOptions>): Promise<unknown>;
  write(block: number): Promise<void>;
}

async function makeScene(t: ExecutionContext): Promise<Scene> {
  const disk = await makeCloningDisk(t, 'xfs');
  await writeFile(disk.image, Buffer.alloc(MiB, 'still'));
  const writer = await useImage(t, disk);
  let byte = 0;
  const digits = (names: readonly string[]) =>
    names
      .map((name) => name.at(-1) ?? '')
      .sort()
      .join('');
  const hold: Scene['hold'] = async (session, base, more = {}) => {
    const basePointId = base === null ? null : id(base);
    const options = { ...HOLD, sessionId: id(session), basePointId, full: false, ...more };
    const members = await prepareAll([async () => (await can(disk.probe())).prepare(options)]);
    const [snapshot] = await takeInstant(members, REST);
    if (snapshot === undefined) throw new Error('no snapshot');
    t.teardown(() => snapshot.release());
    return snapshot;
  };
  const scene: Scene = {
    ...disk,
    clone: (session) => join(disk.mountPoint, `.disk.img.stillpoint-${id(session)}`),
    left: async () => ({
      clones: digits(await disk.clones()),
      records: digits(await readdir(join(disk.stateDirectory, 'clones')).catch(() => [])),
    }),
    hold,
    commit: async (...args) => {
      const snapshot = await hold(...args);
      await snapshot.conclude();
      await snapshot.tracking?.committed();
      await snapshot.release();
      return snapshot.tracking?.changes?.ranges ?? snapshot.tracking?.reason;
    },
    write: async (block) => {
      byte += 1;
      await writer.write(Buffer.alloc(BLOCK, byte), 0, BLOCK, block * BLOCK);
    },
  };
  return scene;
}

testWith(
  NEEDS,
  'the clone of the last point tells what changed; there is one, and it is believed only as it was',
  async (t) => {
    const { commit, hold, left, write, clone, image, stateDirectory } = await makeScene(t);
    const only = async (digit: string) => t.deepEqual(await left(), { clones: digit, records: digit });
    t.is(await commit(1, null), 'there is no point to compare with');
    await write(3);
    await write(200);
    t.deepEqual(await commit(2, 1), [
      [3, 4],
      [200, 201],
    ]);
    await only('2');
    t.deepEqual(await commit(3, 2), []);

    // Given up before it was read to its end, and after that: it may be a point.
    await write(7);
    await (await hold(4, 3)).release();
    await only('3');
    const concluded = await hold(5, 3);
    t.like(await concluded.conclude(), { kind: 'crash', facts: { mapUsed: true } });
    await concluded.release();
    t.deepEqual(await left(), { clones: '35', records: '35' });
    // It is not: the receiver's last point is still the one before.
    t.deepEqual(await commit(6, 3), [[7, 8]]);
    await only('6');
    await write(9);
    const lost = await hold(7, 6);
    await lost.conclude();
    await lost.release();
    // It is: only the answer was lost.
    await write(11);
    t.deepEqual(await commit(8, 7), [[11, 12]]);
    await only('8');

    t.is(await commit(9, 1), 'no clone of the last point is kept');
    t.is(await commit(10, 9, { full: true }), 'everything is to be read');
    t.is(await commit(11, 10, { doubt: 'a sampled block differs' }), 'a sampled block differs');
    await only('b');
    // A doubt is for good: the clone that it was about is gone, whatever becomes of the session.
    await (await hold(12, 11, { doubt: 'a sampled block differs' })).release();
    t.is(await commit(13, 11), 'no clone of the last point is kept');

    const changed = 'the clone of the last point was changed since';
    await writeFile(clone(13), 'x', { flag: 'r+' });
    t.is(await commit(14, 13), changed);
    await truncate(clone(14), 4096);
    await truncate(clone(14), MiB);
    t.is(await commit(15, 14), changed);
    await chmod(clone(15), 0o600);
    t.is(await commit(1, 15), changed);
    await rm(clone(1));
    t.is(await commit(2, 1), 'no clone of the last point is kept');
    await only('2');
    // A copy under its name has its label at most.
    await rename(clone(2), `${image}.kept`);
    await copyFile(`${image}.kept`, clone(2));
    t.is(await commit(3, 2), 'no clone of the last point is kept');
    await rm(clone(2));
    await rm(`${image}.kept`);
    await writeFile(join(stateDirectory, 'clones', id(3)), 'torn');
    t.is(await commit(4, 3), 'no clone of the last point is kept');
    await only('4');
  },
);

testWith(
  NEEDS,
  'an image that was renamed keeps its clone; one that took its place does not get it',
  async (t) => {
    const scene = await makeScene(t);
    await scene.commit(1, null);
    await scene.write(5);
    const other = join(scene.mountPoint, 'other.img');
    await rename(scene.image, other);
    await copyFile(other, scene.image);
    await useImage(t, scene);
    t.is(await scene.commit(2, 1), 'the image is another file than at the last point');
    t.deepEqual(await scene.left(), { clones: '2', records: '2' });
    await rename(other, scene.image);
    t.is(await scene.commit(3, 2), 'the image is another file than at the last point');
    await scene.write(6);
    await rename(scene.image, other);
    const moved = { ...scene, image: other };
    await useImage(t, moved);
    const { reflinkEntry } = await import('../../../../src/capture/providers/reflink/entry.js');
    const request = { path: other, stateDirectory: scene.stateDirectory, fuzzy: false };
    const member = await (await can(reflinkEntry.probe(request))).prepare({
      ...HOLD,
      ...{ sessionId: id(4), basePointId: id(3), full: false },
    });
    const [snapshot] = await takeInstant([member], REST);
    t.deepEqual(snapshot?.tracking?.changes?.ranges, [[6, 7]]);
    await snapshot?.release();
  },
);

testWith(
  NEEDS,
  'compared with a point, its clone counts from that point on, with what differed',
  async (t) => {
    const { commit, hold, left, write } = await makeScene(t);
    await commit(1, null);
    const compared = await hold(2, null, { full: true, commits: false });
    t.deepEqual([compared.tracking?.knows(id(1)), compared.tracking?.knows(id(9))], [true, false]);
    await compared.tracking?.adopt(id(9), [[10, 12]], true);
    await compared.release();
    t.deepEqual(await left(), { clones: '2', records: '2' });
    await write(20);
    const partly = await hold(3, null, { full: true, commits: false });
    t.true(partly.tracking?.knows(id(9)));
    await partly.tracking?.adopt(id(9), [[30, 31]], false);
    await partly.release();
    t.deepEqual(await left(), { clones: '2', records: '2' });
    const only = await hold(4, null, { full: true, commits: false });
    await only.conclude();
    await only.release();
    t.deepEqual(await left(), { clones: '2', records: '2' });
    t.deepEqual(await commit(5, 9), [
      [10, 12],
      [20, 21],
      [30, 31],
    ]);
  },
);

testWith(
  NEEDS,
  'a clone that is removed while it is read is a point; one that is written to is none',
  async (t) => {
    const { commit, hold, left, clone } = await makeScene(t);
    const removed = await hold(1, null);
    await rm(clone(1));
    t.is((await removed.device.read(0, 5)).toString(), 'still');
    t.like(await removed.conclude(), { kind: 'crash' });
    await t.throwsAsync(async () => removed.tracking?.committed(), { message: /was changed or removed/ });
    await removed.release();
    t.is(await commit(2, 1), 'no clone of the last point is kept');
    const written = await hold(3, 2);
    await writeFile(clone(3), 'x', { flag: 'r+' });
    await refused(t, written.conclude(), 'snapshot-lost', /the clone was changed while it was read/);
    await written.release();
    t.deepEqual(await left(), { clones: '2', records: '2' });
  },
);

testWith(
  NEEDS,
  "nobody else's file is removed: not one that is no clone, and not one that is at work",
  async (t) => {
    const scene = await makeScene(t);
    const { commit, hold, clones, clone } = scene;
    await writeFile(clone(1), 'somebody wrote this');
    await writeFile(join(scene.mountPoint, `.other.img.stillpoint-${id(2)}`), '');
    const held = await hold(3, null);
    t.is(await commit(4, null), 'there is no point to compare with');
    const found = (await clones()).map((name) => name.replace(/-(.).*/, '-$1'));
    t.deepEqual(found.sort(), [
      '.disk.img.stillpoint-1',
      '.disk.img.stillpoint-3',
      '.disk.img.stillpoint-4',
      '.other.img.stillpoint-2',
    ]);
    await held.conclude();
    t.is((await held.device.read(0, 5)).toString(), 'still');
  },
);

testWith(NEEDS, 'killed at any step, it leaves what the next backup believes or removes', async (t) => {
  const scene = await makeScene(t);
  const child = fileURLToPath(new URL('./children/steps.js', import.meta.url));
  const kill = async (session: number, base: number, step: string): Promise<void> => {
    const args = [child, scene.image, scene.stateDirectory, id(session), id(base), step];
    const [, signal] = (await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')) as unknown[];
    t.is(signal, 'SIGKILL');
  };
  await scene.commit(1, null);
  let last = 1;
  for (const [session, step] of ['prepared', 'cut', 'viewed', 'concluded'].entries()) {
    await scene.write(session);
    await kill(session + 2, last, step);
    t.is((await scene.clones()).length, 2, step);
    // Unlabelled: killed before it was anything.
    await writeFile(scene.clone(14), '');
    const next = session + 8;
    t.deepEqual(await scene.commit(next, last), [[session, session + 1]], step);
    last = next;
    t.deepEqual(await scene.left(), { clones: id(next)[0], records: id(next)[0] }, step);
  }
  for (const [index, step] of ['viewed', 'concluded', 'committed'].entries()) {
    await scene.write(20);
    await kill(index + 1, last, step);
    await scene.write(30 + index);
    // The receiver has it.
    t.deepEqual(await scene.commit(index + 5, index + 1), [[30 + index, 31 + index]], step);
    last = index + 5;
  }
});
