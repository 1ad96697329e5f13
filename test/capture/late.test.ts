/** Late snapshots (src/capture/late.ts), of one member and of several. */
import test from 'ava';
import { NO_REST, prepareAll, snapshotsOf, takeInstant } from '../../src/capture/instant.js';
import { lateSnapshot } from '../../src/capture/late.js';
import type { Member, Snapshot } from '../../src/capture/ports.js';
import { StillpointError } from '../../src/domain/base/errors.js';
import { FakeDisk } from '../helpers/fakes/provider.js';
import { refused } from '../helpers/refused.js';
import { HOLD } from '../helpers/worlds/quiesce.js';

const late = (name: string, log: string[] = [], barrier: Member['barrier'] = 'freeze') =>
  new FakeDisk(name, { isLate: true, barrier, log });
const hold = (disk: FakeDisk, options = {}) =>
  snapshotsOf('late', (_path, held) => disk.prepare(held), NO_REST).hold('/disk', { ...HOLD, ...options });

function failOnce(error: Error = new Error('not now')): () => void {
  let hasFailed = false;
  return () => {
    if (hasFailed) return;
    hasFailed = true;
    throw error;
  };
}

test('held before its instant: nothing was closed, and given back it is free', async (t) => {
  const disk = late('a');
  const snapshot = await hold(disk);
  t.deepEqual(disk.log, ['a prepare']);
  t.is(snapshot.tracking?.changes, null);
  t.is(await snapshot.lost?.(), null);
  await t.throwsAsync(async () => snapshot.tracking?.committed(), { message: /committed .* is passing/ });
  await t.throwsAsync(snapshot.conclude(), { message: /conclude .* is passing/ });
  await snapshot.release();
  await snapshot.release();
  t.deepEqual(disk.log, ['a prepare', 'a release']);
  t.true(disk.isFree);
  await t.throwsAsync(async () => snapshot.passes?.take(), { message: /released/ });
});

test('an instant that fails at any step: the member says whether there is another try', async (t) => {
  for (const step of ['close', 'cut', 'view'] as const) {
    for (const mayTryAgain of [true, false]) {
      const label = `${step} ${mayTryAgain}`;
      const disk = late('a');
      disk.mayTryAgain = mayTryAgain;
      disk.before = { [step]: failOnce() };
      const { passes, release } = await hold(disk);
      t.deepEqual(await passes?.next(), [[0, 8]]);
      if (!mayTryAgain || step === 'view') {
        await t.throwsAsync(async () => passes?.take(), { message: 'not now' }, label);
        await release();
      } else {
        t.is(await passes?.take(), null, label);
        await disk.write(3, 7);
        t.deepEqual(await passes?.next(), [[3, 4]], label);
        t.truthy(await passes?.take(), label);
        await release();
      }
      t.is(disk.log.filter((line) => line === 'a release').length, 1, label);
      t.true(disk.isFree, label);
    }
  }
});

test('cancelled, it asks for no other try', async (t) => {
  const disk = late('a');
  disk.mayTryAgain = true;
  const controller = new AbortController();
  disk.before = { close: () => controller.abort() };
  const snapshot = await hold(disk, { signal: controller.signal });
  await refused(t, snapshot.passes?.take() ?? Promise.resolve(), 'cancelled', /cancelled/);
  t.false(disk.log.includes('a again'));
  await snapshot.release();
  t.true(disk.isFree);
});

test('given back while its instant is taken: what that gives is given back, too', async (t) => {
  const disk = late('a');
  const snapshot = await hold(disk);
  disk.before = { view: () => snapshot.release() };
  await t.throwsAsync(async () => snapshot.passes?.take());
  t.true(disk.isFree);
});

test('several members: one that is cut when another fails is prepared again, and the next instant is one', async (t) => {
  const log: string[] = [];
  const disks = [late('a', log, 'gate'), late('b', log, 'gate')];
  for (const disk of disks) disk.mayTryAgain = true;
  const members = await prepareAll(disks.map((disk) => () => disk.prepare(HOLD)));
  const lead = () => takeInstant(members, { ...NO_REST, keepsMembers: true });
  const [, b] = disks;
  if (b !== undefined)
    b.before = { cut: failOnce(new StillpointError('device-changed', { thing: 'b', reason: 'it moved' })) };
  const error = await t.throwsAsync(lead(), { message: /it moved/ });
  t.true(log.includes('a cut'));
  for (const member of members) t.true(await member.passes?.again(error));
  let snapshots: Promise<Snapshot[]> | undefined;
  const led = members.map((member, i) => {
    const { passes } = member;
    if (passes === undefined) throw new Error('it is not late');
    return lateSnapshot(member, passes, async () => {
      snapshots ??= lead();
      return (await snapshots)[i] as Snapshot;
    });
  });
  for (const { passes } of led) await passes?.next();
  const taken = await Promise.all(led.map(({ passes }) => passes?.take()));
  t.is(taken.filter((view) => view?.tracking?.changes != null).length, 2);
  for (const snapshot of led) await snapshot.release();
  t.true(disks.every((disk) => disk.isFree));
});
