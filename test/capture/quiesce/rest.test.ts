import test from 'ava';
import { prepareAll, takeInstant } from '../../../src/capture/instant.js';
import { freezeBudgetMs } from '../../../src/capture/quiesce/rest.js';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { freezable, isFrozen, startWriter, unfreeze } from '../../helpers/disks/freezable.js';
import { mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { FakeDisk } from '../../helpers/fakes/provider.js';
import { hookScene, WELL_BEHAVED } from '../../helpers/machines/hooks.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';
import { HOLD, type QuiesceOptions, quiesce } from '../../helpers/worlds/quiesce.js';

const BARE: QuiesceOptions = { device: '/dev/null', name: 'test', hooks: [], freeze: 'none' };

test('nothing asked for, nothing better than a crash', async (t) => {
  t.deepEqual(await quiesce(BARE, async () => 42), { result: 42, kind: 'crash', warnings: [] });
  await t.throwsAsync(
    quiesce(BARE, async () => {
      throw new Error('no instant');
    }),
    { message: 'no instant' },
  );
});

test('hooks: in order, released in reverse, then the instant is worth it', async (t) => {
  const scene = await hookScene(t);
  const hooks = [await scene.script('a', WELL_BEHAVED), await scene.script('b', WELL_BEHAVED)];
  const before: string[] = [];
  const { kind, warnings } = await quiesce({ ...BARE, hooks }, async () => {
    before.push(...(await scene.log()));
  });
  t.is(kind, 'application');
  t.deepEqual(warnings, []);
  t.deepEqual(before, ['a quiesced', 'b quiesced']);
  t.deepEqual(await scene.log(), ['a quiesced', 'b quiesced', 'b release', 'a release']);
});

test('a hook that fails ends it; those before it are told, those after it never start', async (t) => {
  const scene = await hookScene(t);
  const hooks = [
    await scene.script('a', WELL_BEHAVED),
    await scene.script('b', WELL_BEHAVED),
    await scene.script('c', 'log failed; exit 1'),
    await scene.script('d', WELL_BEHAVED),
  ];
  const error = await t.throwsAsync(quiesce({ ...BARE, hooks }, async () => t.fail('an instant')));
  t.true(isStillpointError(error, 'hook'));
  t.deepEqual(await scene.log(), ['a quiesced', 'b quiesced', 'c failed', 'b aborted', 'a aborted']);
});

test('a hook that ends badly costs the kind; the others are released all the same', async (t) => {
  const scene = await hookScene(t);
  const hooks = [
    await scene.script('a', WELL_BEHAVED),
    await scene.script('b', 'echo ready; read -r word; exit 2'),
  ];
  const { kind, warnings } = await quiesce({ ...BARE, hooks }, async () => undefined);
  t.is(kind, 'crash');
  t.is(warnings.length, 1);
  t.regex(warnings[0] ?? '', /b ended with status 2$/);
  t.deepEqual(await scene.log(), ['a quiesced', 'a release']);
});

test('a mount point that is none', async (t) => {
  const error = await t.throwsAsync(
    quiesce({ ...BARE, freeze: ['/nonexistent'] }, async () => t.fail('an instant')),
  );
  t.true(isStillpointError(error, 'usage'));
});

testWith(['root', 'loop'], 'frozen in the instant, thawed after, inside of hooks', async (t) => {
  const { device, mountPoint } = await freezable(t, 'ext4');
  const scene = await hookScene(t);
  const hook = await scene.script('hook', WELL_BEHAVED);
  const only = await quiesce({ ...BARE, device, freeze: 'auto' }, async () => isFrozen(mountPoint));
  t.deepEqual(only, { result: true, kind: 'filesystem', warnings: [] });
  t.false(isFrozen(mountPoint));
  const both = await quiesce({ ...BARE, device, freeze: 'auto', hooks: [hook] }, async () =>
    isFrozen(mountPoint),
  );
  t.deepEqual(both, { result: true, kind: 'application', warnings: [] });
  t.false(isFrozen(mountPoint));
});

testWith(['root', 'loop'], 'a freeze is worth something for the devices that it was of', async (t) => {
  const { device, mountPoint } = await freezable(t, 'ext4');
  const bare = { ...BARE, freeze: 'auto' } as const;
  const take = async (...disks: FakeDisk[]): Promise<string[]> => {
    const snapshots = await takeInstant(
      await prepareAll(disks.map((disk) => () => disk.prepare(HOLD))),
      bare,
    );
    for (const snapshot of snapshots) await snapshot.release();
    t.false(isFrozen(mountPoint));
    return snapshots.map(({ kind }) => kind);
  };
  const mounted = () => new FakeDisk('mounted', { shownAt: [device] });
  t.deepEqual(await take(mounted()), ['filesystem']);
  t.deepEqual(await take(mounted(), mounted()), ['filesystem', 'filesystem']);
  // Nobody has asked who writes to the other one to pause.
  t.deepEqual(await take(mounted(), new FakeDisk('raw', { shownAt: ['/nonexistent.img'] })), [
    'crash',
    'crash',
  ]);
  const open = new FakeDisk('raw', { shownAt: ['/nonexistent.img'], barrier: 'freeze' });
  await refused(t, take(mounted(), open), 'device-changed', /^raw: nothing kept writes out/);
});

testWith(['root', 'loop'], 'the instant fails, or is cancelled: thawed, hooks told', async (t) => {
  const { device, mountPoint } = await freezable(t, 'ext4');
  const scene = await hookScene(t);
  const hooks = [await scene.script('hook', WELL_BEHAVED)];
  const controller = new AbortController();
  const options = { ...BARE, device, freeze: 'auto', hooks, signal: controller.signal } as const;
  await t.throwsAsync(
    quiesce(options, async () => {
      t.true(isFrozen(mountPoint));
      throw new Error('no instant');
    }),
    { message: 'no instant' },
  );
  t.false(isFrozen(mountPoint));
  t.deepEqual(await scene.log(), ['hook quiesced', 'hook aborted']);
  await refused(
    t,
    quiesce(options, async () => {
      t.true(isFrozen(mountPoint));
      controller.abort();
      await new Promise(() => undefined);
    }),
    'cancelled',
  );
  t.false(isFrozen(mountPoint));
  t.deepEqual((await scene.log()).slice(2), ['hook quiesced', 'hook aborted']);
  const error = await t.throwsAsync(
    quiesce({ ...BARE, device, freeze: 'auto', hooks, signal: controller.signal }, async () =>
      t.fail('an instant'),
    ),
  );
  t.true(isStillpointError(error, 'cancelled'));
  t.false(isFrozen(mountPoint));
});

testWith(
  ['root', 'loop'],
  'the deadline passes: a crash, and a warning; a hook does not make it better',
  async (t) => {
    const { device, mountPoint } = await freezable(t, 'ext4');
    const scene = await hookScene(t);
    const hooks = [await scene.script('hook', WELL_BEHAVED)];
    const writer = { done: Promise.resolve<unknown>(undefined) };
    const { kind, warnings } = await quiesce(
      { ...BARE, device, freeze: 'auto', freezeDeadlineMs: 200, hooks },
      async () => {
        writer.done = startWriter(mountPoint).done;
        await writer.done;
      },
    );
    t.is(kind, 'crash');
    t.deepEqual(warnings, ['the freeze had to end at its deadline']);
  },
);

testWith(['root', 'loop'], 'frozen by somebody else: a crash, and the reason', async (t) => {
  const { device, mountPoint } = await freezable(t, 'ext4');
  run('fsfreeze', '--freeze', mountPoint);
  const { result, kind, warnings } = await quiesce({ ...BARE, device, freeze: 'auto' }, async () => 'taken');
  t.is(result, 'taken');
  t.is(kind, 'crash');
  t.deepEqual(warnings, [`${mountPoint}: it can't be frozen: another program has already frozen it.`]);
  t.true(unfreeze(mountPoint));
});

testWith(
  ['root', 'loop'],
  'named: only those; one that is left out costs the kind, a read-only one does not',
  async (t) => {
    const outer = await freezable(t, 'ext4');
    const inner = await freezable(t, 'ext4', { within: outer.mountPoint, sizeBytes: 8 * 1024 * 1024 });
    const taken = async (): Promise<boolean[]> => [isFrozen(outer.mountPoint), isFrozen(inner.mountPoint)];
    const named = (freeze: readonly string[]) => quiesce({ ...BARE, device: outer.device, freeze }, taken);
    t.deepEqual(await named([outer.mountPoint, inner.mountPoint]), {
      result: [true, true],
      kind: 'filesystem',
      warnings: [],
    });
    t.deepEqual(await named([inner.mountPoint]), {
      result: [false, true],
      kind: 'crash',
      warnings: [`${outer.mountPoint} was not frozen: it was not named`],
    });
    run('mount', '-o', 'remount,ro', inner.mountPoint);
    t.like(await named([outer.mountPoint]), { kind: 'filesystem', warnings: [] });
  },
);

testWith(['root', 'loop'], 'a device that is seen elsewhere; one that nothing is mounted from', async (t) => {
  const { device, mountPoint } = await freezable(t, 'xfs');
  const elsewhere = await quiesce({ ...BARE, alsoSeenAs: [device], freeze: 'auto' }, async () =>
    isFrozen(mountPoint),
  );
  t.deepEqual(elsewhere, { result: true, kind: 'filesystem', warnings: [] });
  const nothing = await quiesce({ ...BARE, freeze: 'auto' }, async () => isFrozen(mountPoint));
  t.deepEqual(nothing, { result: false, kind: 'crash', warnings: [] });
});

testWith(
  ['root', 'loop'],
  'a kind of file system that can not be frozen is told, and keeps it a crash',
  async (t) => {
    const { device, mountPoint } = await freezable(t, 'ext4');
    const memory = `${await temporaryDirectory(t, 'quiesce')}/memory`;
    await mount(t, 'none', memory, 'size=1m', 'tmpfs');
    const { result, kind, warnings } = await quiesce(
      { ...BARE, device, freeze: [memory, mountPoint] },
      async () => isFrozen(mountPoint),
    );
    t.deepEqual([result, kind], [true, 'crash']);
    t.deepEqual(warnings, [`${memory} was not frozen: tmpfs can't be`]);
  },
);

testWith(
  ['root', 'loop'],
  'quiet: the instant comes after a while without a write, and a later one is told',
  async (t) => {
    const { device, mountPoint } = await freezable(t, 'ext4');
    const quiet = { quietMs: 200, deadlineMs: 5_000 };
    const started = performance.now();
    const calm = await quiesce({ ...BARE, device, quiet }, async () => performance.now() - started);
    t.true(calm.result >= 200);
    t.deepEqual([calm.kind, calm.warnings], ['idle', []]);
    const busy = await quiesce({ ...BARE, device, quiet }, async () => {
      await startWriter(mountPoint).done;
      run('sync', '--file-system', mountPoint);
    });
    t.is(busy.kind, 'crash');
    t.deepEqual(busy.warnings, [`${device} was written to while the instant was taken`]);
  },
);

test('a freeze of several devices may take as long as each of them needs, and never longer than one', (t) => {
  const live = { cut: { budgetMs: 500, descriptors: [] } };
  t.is(freezeBudgetMs([{}]), 10_000);
  t.is(freezeBudgetMs([live]), 500);
  t.is(freezeBudgetMs([live, {}]), 1_000);
  t.is(freezeBudgetMs([live, live, live]), 1_500);
  t.is(freezeBudgetMs(Array.from({ length: 32 }, () => live)), 10_000);
  t.is(freezeBudgetMs([live, { cutsItself: true }]), 10_000);
});
