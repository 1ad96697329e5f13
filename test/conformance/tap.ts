/**
 * What every tap addon must do for the process that serves taps, as far as it can be seen without
 * reading or writing the device.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import type { CreateTapOptions, Tap, TapAddon, TapHold, TapHoldOptions } from '../../src/native/index.js';
import { tempDir } from '../helpers/disks/temp-dir.js';

const test = anyTest as TestFn;

type TestedAddon = Pick<TapAddon, 'createTap' | 'readTapMap'>;

const SIZE_BYTES = MiB;
const BLOCK = 64 * KiB;
const SESSION = 'a'.repeat(32);
const LIMITS = { barrierMs: 1000, closedMs: 5000 };
const OTHER = 'b'.repeat(32);

interface Scene {
  readonly tap: Tap;
  readonly options: CreateTapOptions & { readonly mapPath: string };
  readonly prepare: (changes?: Partial<TapHoldOptions>) => Promise<void>;
  /** Prepares, closes, cuts. */
  readonly hold: (changes?: Partial<TapHoldOptions>) => Promise<TapHold>;
  readonly end: (continuity?: string) => Promise<void>;
}

export function testTapAddon(name: string, make: () => TestedAddon): void {
  const withTap = (
    title: string,
    body: (t: ExecutionContext, scene: Scene, addon: TestedAddon) => Promise<void>,
  ) =>
    test(`${name}: ${title}`, async (t) => {
      const addon = make();
      const dir = await tempDir(t);
      const path = join(dir, 'image');
      await writeFile(path, Buffer.alloc(SIZE_BYTES, 'x'));
      const options = { path, blockSize: BLOCK, mapPath: join(dir, 'map'), identity: 'its identity' };
      const tap = await addon.createTap(options);
      await tap.listenSnapshot(`unix:${join(dir, 'snapshot')}`);
      const prepare = (changes: Partial<TapHoldOptions> = {}) =>
        tap.prepare({
          ...{ sessionId: SESSION, basePointId: null, full: true, readBlockSize: BLOCK, sampleBlocks: [] },
          ...{ preserveDirectory: dir, preserveMaxBytes: MiB, whenFull: 'fail' },
          ...changes,
        });
      const hold = async (changes: Partial<TapHoldOptions> = {}) => {
        await prepare(changes);
        await tap.closeGate(LIMITS);
        return tap.cut();
      };
      const end = async (continuity = '') => {
        await tap.stop();
        await tap.close(continuity);
      };
      await body(t, { tap, options, prepare, hold, end }, addon);
    });

  withTap(
    'a new tap says what it serves, and that its map is of no point',
    async (t, { tap, options, end }) => {
      const { map, hold, ...status } = tap.status();
      t.like(status, { path: options.path, sizeBytes: SIZE_BYTES, blockSize: BLOCK, readOnly: false });
      t.is(map.pointIds, null);
      t.true(map.reason.length > 0);
      t.true(map.persistent);
      t.is(hold, null);
      t.deepEqual(await tap.checkSource(), {
        sizeBytes: SIZE_BYTES,
        leastBytes: SIZE_BYTES,
        foreignWriters: 0,
      });
      await end();
    },
  );

  withTap(
    'one snapshot is held at a time, until it is aborted or committed',
    async (t, { tap, hold, end }) => {
      const held = await hold();
      t.like(held, { mapUsed: false, changedBlocks: SIZE_BYTES / BLOCK });
      t.true(held.exportName.length > 0);
      t.like(tap.status().hold, { sessionId: SESSION, state: 'held', reason: '', preserveMaxBytes: MiB });
      await t.throwsAsync(hold({ sessionId: OTHER }), { code: 'EBUSY' });
      await tap.abort();
      t.is(tap.status().hold, null);
      await tap.abort();
      await hold({ sessionId: OTHER });
      t.like(tap.status().hold, { sessionId: OTHER });
      await tap.commit();
      t.is(tap.status().hold, null);
      await hold();
      await end();
    },
  );

  withTap('there is an instant only behind a closed gate', async (t, { tap, prepare, end }) => {
    await t.throwsAsync(tap.closeGate(LIMITS), { code: 'argument' });
    await prepare();
    await t.throwsAsync(prepare(), { code: 'EBUSY' });
    await t.throwsAsync(tap.cut(), { code: 'gate-open' });
    await tap.closeGate(LIMITS);
    await tap.openGate();
    await tap.openGate();
    await t.throwsAsync(tap.cut(), { code: 'gate-open' });
    await tap.closeGate(LIMITS);
    t.like(await tap.cut(), { mapUsed: false });
    await tap.abort();
    await prepare();
    await tap.abort();
    t.is(tap.status().hold, null);
    await end();
  });

  test(`${name}: a journal has each instant, until it breaks; what is broken goes when it is released`, async (t) => {
    const dir = await tempDir(t);
    const path = join(dir, 'image');
    await writeFile(path, Buffer.alloc(SIZE_BYTES, 'x'));
    await mkdir(join(dir, 'spool'));
    const tap = await make().createTap({
      ...{ path, blockSize: BLOCK, mapPath: join(dir, 'map'), identity: 'its identity' },
      journal: {
        ...{ directory: join(dir, 'spool'), headDirectory: dir, maxBytes: 16 * MiB },
        clock: {
          wordPath: join(dir, 'word'),
          lockPath: join(dir, 'clock.lock'),
          reservationPath: join(dir, 'reservation'),
        },
      },
    });
    await tap.listenSnapshot(`unix:${join(dir, 'snapshot')}`);
    const hold = async () => {
      await tap.prepare({
        ...{ sessionId: SESSION, basePointId: null, full: true, readBlockSize: BLOCK, sampleBlocks: [] },
        ...{ preserveDirectory: dir, preserveMaxBytes: MiB, whenFull: 'fail' },
      });
      await tap.closeGate(LIMITS);
      const { journal } = await tap.cut();
      await tap.commit();
      if (journal === undefined) throw new Error('no journal was begun');
      return journal;
    };
    t.deepEqual(tap.status().journal, { heads: [], failure: '', aheadMs: 0 });
    t.is(await tap.stampJournal(), null);
    await tap.breakJournal(OTHER, 'there is none');
    const first = await hold();
    t.regex(first.journalId, /^[0-9a-f]{32}$/);
    t.is(first.ordinal, 1);
    const second = await hold();
    t.like(second, { journalId: first.journalId, clockId: first.clockId, ordinal: 2 });
    t.true(BigInt(second.stamp) > BigInt(first.stamp));
    const stamped = await tap.stampJournal();
    t.like(stamped, { journalId: first.journalId, ordinal: 3 });
    t.like(tap.status().journal?.heads, [{ journalId: first.journalId, state: 'open', ordinal: 3 }]);
    await tap.breakJournal(OTHER, 'it is not the one');
    t.is(tap.status().journal?.heads.at(-1)?.state, 'open');
    await tap.breakJournal(first.journalId, 'it was asked for');
    t.is(await tap.stampJournal(), null);
    const [broken] = tap.status().journal?.heads ?? [];
    t.like(broken, { state: 'broken', reason: 'it was asked for', ordinal: 3, lastOrdinal: 3 });
    t.true(BigInt(broken?.brokenStamp ?? 0) > BigInt(broken?.stamp ?? 0));
    const third = await hold();
    t.not(third.journalId, first.journalId);
    t.is(tap.status().journal?.heads.length, 2);
    await tap.releaseJournal(first.journalId, 2);
    t.is(tap.status().journal?.heads.length, 2);
    await tap.releaseJournal(first.journalId, 3);
    await tap.releaseJournal(first.journalId, 3);
    t.like(tap.status().journal?.heads, [{ journalId: third.journalId, state: 'open' }]);
    await tap.stop();
    t.is(await tap.close('mark'), '');
  });

  withTap('an adopted point ends the snapshot', async (t, { tap, hold, end }) => {
    await hold();
    await tap.mark([[0, 2]]);
    await tap.adopt(OTHER, true);
    t.is(tap.status().hold, null);
    await end();
  });

  withTap('a void map says why', async (t, { tap, end }) => {
    await tap.voidMap('because of a test');
    t.is(tap.status().map.pointIds, null);
    t.is(tap.status().map.reason, 'because of a test');
    await end();
  });

  withTap(
    'a map is clean, with its mark of continuity, only once it is closed',
    async (t, { options, end }, addon) => {
      const { identity, mapPath } = options;
      t.like(await addon.readTapMap(mapPath), {
        identity,
        sizeBytes: SIZE_BYTES,
        blockSize: BLOCK,
        clean: false,
        continuity: '',
      });
      await end('as it was');
      t.like(await addon.readTapMap(mapPath), {
        identity,
        clean: true,
        continuity: 'as it was',
        pointIds: [],
      });
    },
  );

  withTap(
    'a map that is not there is none, and what is no map is refused',
    async (t, { options, end }, addon) => {
      t.is(await addon.readTapMap(`${options.mapPath}.absent`), null);
      await writeFile(`${options.mapPath}.other`, Buffer.alloc(8192, 'no map'));
      await t.throwsAsync(addon.readTapMap(`${options.mapPath}.other`), { code: 'bad-magic' });
      await end();
    },
  );

  withTap('a map that is distrusted says so', async (t, { options, end }, addon) => {
    await end();
    const tap = await addon.createTap({ ...options, distrust: 'a test distrusts it' });
    t.is(tap.status().map.reason, 'a test distrusts it');
    await tap.stop();
    await tap.close('');
  });
}
