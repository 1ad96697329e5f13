/** Backups of a device that is copied in passes while it changes: the point is the device at its instant. */
import test from 'ava';
import { type CompareOptions, runCompare } from '../../../src/agent/compare/compare.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { PATCH_MODES } from '../../../src/domain/session/patching.js';
import { refused } from '../../helpers/refused.js';
import { BLOCK, faultyReceiver } from '../../helpers/worlds/backup.js';
import { ALL, BLOCKS, stampAll, passesWorld as world } from '../../helpers/worlds/passes.js';

const onlyOnce = <Args extends unknown[]>(work: (...args: Args) => Promise<void> | void) => {
  let isDone = false;
  return async (...args: Args) => {
    if (isDone) return;
    isDone = true;
    await work(...args);
  };
};

/** For `beforePass`: the first pass was read by then. */
const beforeSecond = (work: () => Promise<void>) => {
  const once = onlyOnce(work);
  return (pass: number) => (pass === 2 ? once() : undefined);
};

test('everything three times, what went back to the last point, and what became zero', async (t) => {
  const { disk, made, backup, isAtInstant } = await world(t, { heldMax: 6 });
  await stampAll(disk, 1);
  disk.beforePass = (pass) => (pass <= 3 ? stampAll(disk, pass) : undefined);
  const first = await backup();
  await isAtInstant(first);
  const size = BLOCKS * BLOCK;
  t.like(first, {
    kind: 'crash',
    provider: 'late',
    providerFacts: { of: 'the member', passes: 3, sentAgainBytes: 2 * size },
    statistics: { changedBytes: size, scannedBytes: 3 * size },
    warnings: ['it changes', 'it was cut'],
  });
  t.deepEqual(
    made.events.flatMap((event) => (event.type === 'pass' ? [event] : [])),
    [0, 0, size].map((sentAgainBytes, i) => ({
      type: 'pass',
      pass: i + 1,
      toReadBytes: size,
      sentAgainBytes,
    })),
  );

  for (const patch of PATCH_MODES) {
    const former = ALL.map((blockIndex) => disk.contentOf(blockIndex));
    const few = Buffer.alloc(4096, PATCH_MODES.indexOf(patch) + 1);
    for (const blockIndex of ALL.slice(0, 20)) await disk.write(blockIndex, few, 8192);
    disk.beforePass = beforeSecond(async () => {
      for (const blockIndex of [0, 1, 2, 3]) await disk.write(blockIndex, former[blockIndex] as Buffer);
      for (const blockIndex of [4, 5]) await disk.stamp(blockIndex, 0);
      for (const blockIndex of [6, 7]) await disk.write(blockIndex, few, 16_384);
    });
    const point = await backup({ patch });
    await isAtInstant(point, patch);
    t.like(point, { statistics: { changedBytes: 16 * BLOCK }, providerFacts: { passes: 2 } }, patch);
    t.is(point.providerFacts.sentAgainBytes, 6 * BLOCK, patch);
    t.true(made.events.some((event) => event.type === 'pass' && event.pass === 2));
    await stampAll(disk, 3);
    await isAtInstant(await backup(), `${patch}, restored`);
  }
});

test('nothing changed: no pass, and the root of the last point', async (t) => {
  const { disk, backup, isAtInstant } = await world(t);
  await stampAll(disk, 1);
  const first = await backup();
  let fromMs = Number.POSITIVE_INFINITY;
  disk.beforeCut = async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    fromMs = Date.now();
  };
  const point = await backup();
  await isAtInstant(point);
  t.like(point, { root: first.root, providerFacts: { passes: 0, sentAgainBytes: 0 } });
  t.true(Date.parse(point.instant) >= fromMs, 'the instant is that of the cut');
});

test('a sector that is bad in one pass only counts as the last reading found it', async (t) => {
  const { disk, backup, made, isAtInstant } = await world(t);
  await stampAll(disk, 1);
  disk.setBad(3, true);
  disk.setBad(4, true);
  disk.duringPass = onlyOnce(() => stampAll(disk, 1, [3, 5]));
  disk.beforePass = (pass) => {
    if (pass !== 2) return;
    disk.setBad(3, false);
    disk.setBad(5, true);
  };
  const point = await backup();
  t.deepEqual(
    point.badRanges.map(({ byteOffset, content }) => [Math.floor(byteOffset / BLOCK), content]),
    [
      [4, 'filler'],
      [5, 'filler'],
    ],
  );
  const contents = await made.contents(point);
  t.true(contents.subarray(3 * BLOCK, 4 * BLOCK).equals(disk.contentOf(3)));
  t.false(contents.subarray(5 * BLOCK, 6 * BLOCK).equals(disk.contentOf(5)));
  disk.setBad(4, false);
  disk.setBad(5, false);
  disk.beforePass = () => undefined;
  await isAtInstant(await backup());
  t.true(disk.holds.at(-1)?.full, 'the last point has bad ranges');

  const former = disk.contentOf(8);
  await disk.stamp(8, 9);
  disk.beforePass = beforeSecond(async () => {
    await disk.write(8, former);
    disk.setBad(8, true);
  });
  const repaired = await backup();
  t.like(repaired.badRanges, [{ content: 'previous' }]);
  t.true((await made.contents(repaired)).subarray(8 * BLOCK, 9 * BLOCK).equals(former), 'it is sent again');
  t.is(repaired.providerFacts.sentAgainBytes, BLOCK);
  disk.setBad(8, false);
  await isAtInstant(await backup());

  for (const isBadFirst of [true, false]) {
    await disk.stamp(6, isBadFirst ? 2 : 3);
    disk.setBad(6, isBadFirst);
    disk.sample = [6];
    disk.beforeCut = () => disk.setBad(6, !isBadFirst);
    disk.holds.length = 0;
    const turned = await backup();
    t.is(disk.holds.length, 1, 'a sector that turned is no missed change');
    t.is(turned.badRanges.length, isBadFirst ? 0 : 1);
    disk.setBad(6, false);
    disk.beforeCut = () => undefined;
    await isAtInstant(await backup());
  }
});

test('an instant that is not reached is tried again after more passes, as long as the member says so', async (t) => {
  const { disk, backup, made, isAtInstant } = await world(t);
  await stampAll(disk, 1);
  let cuts = 0;
  disk.beforeCut = async () => {
    cuts += 1;
    await disk.stamp(cuts, 10 + cuts);
    if (cuts <= 2) throw new Error('it took too long');
  };
  const point = await backup();
  await isAtInstant(point);
  t.is(cuts, 3);
  t.is(point.providerFacts.passes, 3);

  disk.mayTryAgain = false;
  disk.beforeCut = () => {
    throw new StillpointError('device-changed', {
      thing: '/late',
      reason: 'it never rests',
      permanent: false,
    });
  };
  await stampAll(disk, 2);
  await refused(t, backup(), 'device-changed', /it never rests/);
  t.false(disk.isHeld);
  t.is((await made.points()).length, 1);
  disk.beforeCut = () => undefined;
  const next = await backup();
  await isAtInstant(next);
  t.true(next.statistics.wireBytes < (BLOCKS * BLOCK) / 4, 'what had arrived is not sent again');
});

test('cancelled in a pass, and while it waits for one: nothing is held, and the next backup is right', async (t) => {
  for (const isWaiting of [false, true]) {
    const { disk, backup, made, isAtInstant } = await world(t);
    await stampAll(disk, 1);
    const controller = new AbortController();
    disk.duringPass = async (pass) => {
      if (pass === 1) await stampAll(disk, 2, [1, 2]);
      if (pass !== 2) return;
      disk.device.setReadDelayMs(50);
      setTimeout(() => controller.abort(), 10);
      if (isWaiting) await new Promise(() => undefined);
    };
    await refused(t, backup({ signal: controller.signal }), 'cancelled', /it was cancelled/);
    t.false(disk.isHeld);
    t.is((await made.points()).length, 0);
    disk.device.setReadDelayMs(0);
    disk.duringPass = () => undefined;
    await isAtInstant(await backup());
  }
});

test('a link that breaks in a pass is waited for; one that is gone ends the session, and no later one goes on with it', async (t) => {
  const { disk, backup, made, isAtInstant } = await world(t);
  await stampAll(disk, 1);
  disk.duringPass = (pass) => (pass <= 2 ? stampAll(disk, 1 + pass, ALL.slice(0, 10)) : undefined);
  const lost = new StillpointError('connection-lost', {
    thing: 'receiver',
    reason: 'gone',
    permanent: false,
  });
  let calls = 0;
  const shaky = faultyReceiver(made.receiver, (method) => {
    if (method !== 'batch') return null;
    calls += 1;
    return calls % 3 === 0 ? null : calls % 3 === 1 ? { before: lost } : { after: lost };
  });
  const point = await backup({ receiver: shaky });
  await isAtInstant(point);
  t.is(point.providerFacts.passes, 3);

  await stampAll(disk, 5);
  let isGone = false;
  disk.duringPass = async (pass) => {
    await stampAll(disk, 5 + pass, [1]);
    if (pass === 2) isGone = true;
  };
  const gone = faultyReceiver(made.receiver, (method) =>
    isGone && method === 'batch' ? { before: lost } : null,
  );
  await refused(t, backup({ receiver: gone, patienceMs: 0 }), 'connection-lost', /gone/);
  t.false(disk.isHeld);
  disk.duringPass = () => undefined;
  made.events.length = 0;
  await isAtInstant(await backup());
  t.notRegex(made.notices().join(), /continues/);
});

test('a receiver that refuses a batch of a pass, or the commit: no point, nothing is held', async (t) => {
  for (const method of ['batch', 'commit'] as const) {
    const { disk, backup, made, isAtInstant } = await world(t);
    await stampAll(disk, 1);
    disk.duringPass = onlyOnce(() => stampAll(disk, 2, [1, 2]));
    const refusal = new StillpointError('store-full', {
      thing: 'store',
      reason: 'it is full',
      permanent: true,
    });
    let calls = 0;
    const receiver = faultyReceiver(made.receiver, (name) => {
      if (name === method) calls += 1;
      return calls >= (method === 'batch' ? 2 : 1) && name === method ? { before: refusal } : null;
    });
    await refused(t, backup({ receiver }), 'store-full', /it is full/);
    t.false(disk.isHeld);
    t.false(disk.isCommitted);
    await isAtInstant(await backup(), method);
  }
});

test('a sample that is not as it was taken for: a second session reads everything', async (t) => {
  const { disk, backup, made, isAtInstant } = await world(t);
  await stampAll(disk, 1);
  await isAtInstant(await backup());
  for (const isShippedBefore of [false, true]) {
    if (isShippedBefore) await disk.stamp(7, 21);
    await disk.stamp(8, 20);
    disk.beforePass = beforeSecond(async () => {
      disk.unseen.add(7);
      await disk.stamp(7, isShippedBefore ? 22 : 20);
    });
    disk.sample = [7, 9];
    disk.holds.length = 0;
    made.events.length = 0;
    const point = await backup();
    await isAtInstant(point, String(isShippedBefore));
    t.like(disk.holds, { length: 2 });
    t.regex(disk.holds[1]?.doubt ?? '', /missed a change: block 7/);
    t.regex(point.warnings.join(), /the map of changes is void, so everything is read/);
    disk.unseen.clear();
  }
  disk.sample = [10];
  disk.beforePass = async (pass) => {
    disk.unseen.add(10);
    if (pass === 2) await disk.stamp(10, disk.holds.length + 40);
  };
  disk.holds.length = 0;
  await disk.stamp(8, 25);
  await refused(t, backup(), 'device-changed', /can't be relied on: it missed a change: block 10/);
  t.is(disk.holds.length, 2);
  disk.unseen.clear();
  disk.beforePass = () => undefined;
  await disk.stamp(10, 50);
  disk.sample = [1, 2, 8];
  await disk.stamp(8, 30);
  disk.holds.length = 0;
  await isAtInstant(await backup());
  t.is(disk.holds.length, 1, 'a block that was shipped and stayed so is no missed change');
});

test('a comparison reads in passes, too, and finds what differs at the instant', async (t) => {
  const { disk, backup, made } = await world(t);
  await stampAll(disk, 1);
  const point = await backup();
  const former = disk.contentOf(6);
  const { receiver, stateDirectory, image: path } = made;
  const compare = (options: Partial<CompareOptions> = {}) =>
    runCompare({ receiver, point, path, stateDirectory, provider: disk.provider, ...options });
  await stampAll(disk, 2, [5, 6, 7, 30]);
  disk.setBad(9, true);
  disk.setBad(10, true);
  disk.beforePass = beforeSecond(async () => {
    disk.setBad(9, false);
    await disk.stamp(9, 1);
    await disk.write(6, former);
    await disk.stamp(20, 0);
  });
  disk.beforeCut = () => disk.stamp(21, 3);
  const found = await compare();
  t.deepEqual(
    [...found.differing.ranges()],
    [
      [5, 6],
      [7, 8],
      [10, 11],
      [20, 22],
      [30, 31],
    ],
  );
  t.deepEqual(found.unreadableBlocks, [10]);
  t.is(found.kind, 'crash');
  t.deepEqual(found.warnings, ['it changes', 'it was cut']);
  t.false(disk.isHeld);
  const some = await compare({ byteRanges: [[20 * BLOCK, 25 * BLOCK]] });
  t.deepEqual([...some.differing.ranges()], [[20, 22]]);
});

test('what is written while the device is compared comes in a later pass', async (t) => {
  const { disk, backup, made, isAtInstant } = await world(t);
  await stampAll(disk, 1);
  await backup();
  await stampAll(disk, 2, [3, 4]);
  await made.forgetState();
  made.events.length = 0;
  const point = await backup({
    compare: true,
    acceptIdentity: true,
    onCompared: () => {
      disk.stamp(20, 9);
      disk.stamp(3, 9);
    },
  });
  await isAtInstant(point);
  const passes = made.events.flatMap((event) => (event.type === 'pass' ? [event.toReadBytes / BLOCK] : []));
  t.deepEqual(passes, [2, 2], 'the comparison spares reading what is as it was');
  t.is(point.statistics.changedBytes, 3 * BLOCK);
});
