/** Instants of several members of which one has a moment of its own, or was not used by anybody. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { NO_REST, prepareAll, takeInstant } from '../../src/capture/instant.js';
import { checkIsOne } from '../../src/capture/one-instant.js';
import type { Cut, Member, Snapshot } from '../../src/capture/ports.js';
import { FakeDisk, type FakeDiskOptions } from '../helpers/fakes/provider.js';
import { refused } from '../helpers/refused.js';
import { seededRandom } from '../helpers/seed.js';
import { HOLD } from '../helpers/worlds/quiesce.js';

const OWN: FakeDiskOptions = { barrier: 'cut', kind: 'crash' };

function disksOf(...all: readonly FakeDiskOptions[]) {
  const log: string[] = [];
  const disks = all.map((options, i) => new FakeDisk('abc'.charAt(i), { ...options, log }));
  return { disks: disks as [FakeDisk, FakeDisk, FakeDisk], log };
}

async function take(disks: readonly FakeDisk[], options = {}): Promise<Snapshot[]> {
  const members = await prepareAll(disks.map((disk) => () => disk.prepare(HOLD)));
  return takeInstant(members, { ...NO_REST, ...options });
}

test('a moment of its own is that of all: others close before it, and are cut when it has ended', async (t) => {
  const { disks, log } = disksOf({}, OWN, {});
  const [a, b, c] = disks;
  const closed: boolean[] = [];
  b.before.cut = async () => {
    closed.push(a.isClosed, c.isClosed);
    await sleep(50);
    closed.push(a.isClosed, c.isClosed, log.includes('a cut'), log.includes('c cut'));
  };
  const snapshots = await take(disks);
  t.deepEqual(closed, [true, true, true, true, false, false]);
  t.is(new Set(snapshots.map(({ instant }) => instant.getTime())).size, 1);
  t.deepEqual(
    snapshots.map(({ kind }) => kind),
    ['crash', 'crash', 'crash'],
  );
  for (const snapshot of snapshots) await snapshot.release();
  t.true(disks.every((disk) => disk.isFree));
});

test('one that takes longer than the others may be closed fails the instant, for good', async (t) => {
  const { disks } = disksOf({ isLate: true }, OWN);
  const [a, b] = disks;
  a.mayTryAgain = true;
  let end = (): void => undefined;
  b.before.cut = () =>
    new Promise((resolve) => {
      end = resolve;
    });
  const error = /^b: its snapshot was not taken within 500 ms/;
  await refused(t, take(disks, { freezeDeadlineMs: 500 }), 'device-io', error);
  end();
  for (let tries = 0; tries < 200 && !disks.every((disk) => disk.isFree); tries += 1) await sleep(5);
  t.true(disks.every((disk) => disk.isFree));
});

test('one that fails leaves nothing closed', async (t) => {
  const { disks, log } = disksOf({}, OWN, {});
  disks[1].before.cut = () => {
    throw new Error('no room');
  };
  await t.throwsAsync(take(disks), { message: 'no room' });
  t.false(log.includes('a cut'));
  t.true(disks.every((disk) => disk.isFree));
});

test('with a moment of its own: an answered write is never missing where a later one is there', async (t) => {
  const { below } = seededRandom(t);
  for (let round = 0; round < 12; round += 1) {
    const { disks } = disksOf({}, OWN, {});
    for (const disk of disks)
      disk.before = {
        close: () => sleep(below(10)),
        cut: () => sleep(below(10)),
        view: () => sleep(below(10)),
      };
    let isOver = false;
    const writing = (async () => {
      for (let n = 1; n < 250 && !isOver; n += 1) {
        await disks[n % 3]?.write(0, n);
        if (n % 7 === 0) await sleep(1);
      }
    })();
    await sleep(below(5));
    const snapshots = await take(disks);
    isOver = true;
    await writing;
    const numbers = await Promise.all(snapshots.map(async ({ device }) => (await device.read(0, 1))[0] ?? 0));
    const last = Math.max(...numbers);
    for (const n of numbers) t.true(n > last - 3, `${numbers}`);
    for (const snapshot of snapshots) await snapshot.release();
  }
});

test('one that nobody used, and that was written to before its cut, is of no common instant', (t) => {
  const members = [
    { path: 'a', barrier: 'unused' },
    { path: 'b', barrier: 'gate' },
  ] as Member[];
  const cuts = (kind: Cut['kind']) => [{ kind }, { kind: null }] as Cut[];
  const rested = { isFilesystem: [false, false], warnings: ['the freeze was over after 7 ms.'] };
  t.notThrows(() => checkIsOne(members, cuts('idle'), rested));
  t.throws(() => checkIsOne(members, cuts('crash'), rested), { message: /^a: nothing kept writes out/ });
});

test('where a freeze was to keep writes out and did not, the error says why', (t) => {
  const members = [
    { path: 'a', barrier: 'gate' },
    { path: 'b', barrier: 'freeze' },
  ] as Member[];
  const cuts = [{ kind: null }, { kind: null }] as Cut[];
  t.notThrows(() => checkIsOne(members, cuts, { isFilesystem: [false, true], warnings: [] }));
  const rested = { isFilesystem: [false, false], warnings: ['the freeze was over after 7 ms.'] };
  t.throws(() => checkIsOne(members, cuts, rested), {
    message: /^b: nothing kept writes out of it .* taken: the freeze was over after 7 ms\. Have all/,
  });
});
