/**
 * Audits of journals: base and records give the next point, or the journal ends. Over a store in memory, with
 * a model of the addon's replay.
 */
import test, { type ExecutionContext } from 'ava';
import type { Logger } from 'pino';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { JournalPosition, StoredJournal } from '../../../src/domain/journal/journal.js';
import type { Point } from '../../../src/domain/point/point.js';
import { native } from '../../../src/native/index.js';
import { Auditing, type AuditingOptions } from '../../../src/receiver/journals/auditing.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { GEOMETRY } from '../../helpers/bytes/requests.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { JournaledDevice } from '../../helpers/journals/journaled-device.js';
import { WatchedReplay } from '../../helpers/journals/watched-replay.js';

const BLOCK = GEOMETRY.blockSize;
const bytes = (length: number, value: number) => Buffer.alloc(length, value);

class World {
  readonly store: MemoryStore;
  readonly device: JournaledDevice;
  readonly auditing: Auditing;
  readonly replays: WatchedReplay[] = [];
  readonly logged: { readonly level: string; readonly event: unknown; readonly reason: unknown }[] = [];
  nowMs = 0;

  private constructor(store: MemoryStore, service: ReceiverService, options: Partial<AuditingOptions>) {
    this.store = store;
    this.device = new JournaledDevice(agentReceiver(service, 'web'));
    const log = (level: string) => (fields: Record<string, unknown>) =>
      this.logged.push({ level, event: fields.event, reason: fields.reason });
    this.auditing = new Auditing({
      ...{ store, hasSessions: () => false, intervalMs: 1_000_000, nowMs: () => this.nowMs },
      log: { debug: log('debug'), warn: log('warn'), error: log('error') } as unknown as Logger,
      noteAudit: (...noted) => service.journals.noteAudit(...noted),
      tools: {
        scanJournal: native.scanJournal,
        createJournalReplay: (sizeBytes, blockSize) => {
          const replay = new WatchedReplay(sizeBytes, blockSize);
          this.replays.push(replay);
          return replay;
        },
      },
      ...options,
    });
  }

  static async make(t: ExecutionContext, options: Partial<AuditingOptions> = {}): Promise<World> {
    const store = new MemoryStore();
    const service = await ReceiverService.open(store);
    const world = new World(store, service, options);
    t.teardown(async () => {
      await world.auditing.close();
      if (!world.replays.every(({ isClosed }) => isClosed)) throw new Error('a replay is not closed');
      await service.close();
    });
    await world.device.begin();
    return world;
  }

  async journal(): Promise<StoredJournal> {
    const [journal] = await this.device.port.journals();
    if (journal === undefined) throw new Error('no journal');
    return journal;
  }

  async audits(): Promise<(string | null)[]> {
    return (await this.journal()).audits.map(({ fault }) => fault);
  }
}

/** A base with content in blocks 0 to 3, shipped. */
async function withBase(world: World): Promise<Point> {
  const { device } = world;
  for (let block = 0; block < 4; block += 1)
    device.content.fill(block + 1, block * BLOCK, (block + 1) * BLOCK);
  const point = await device.backUp(device.hold());
  await device.ship();
  return point;
}

/** Records over whole and half blocks, over borders, over zeros, and back to zeros. */
function change({ device }: World): void {
  device.write(100, bytes(50, 9));
  device.write(2 * BLOCK - 10, bytes(20, 8));
  device.write(110, bytes(3, 7));
  device.write(6 * BLOCK + 5, bytes(2 * BLOCK, 6));
  device.zero(3 * BLOCK, BLOCK);
  device.zero(6 * BLOCK + 6, 100);
  device.write(15 * BLOCK, bytes(BLOCK, 5));
}

test('base and records give the next point, and the next', async (t) => {
  const world = await World.make(t);
  const { device } = world;
  await withBase(world);
  const points: Point[] = [];
  for (let n = 0; n < 2; n += 1) {
    change(world);
    points.push(await device.backUp(device.hold()));
    device.write(5 * BLOCK, bytes(10, n + 1));
    await device.ship();
  }
  await world.auditing.look();
  t.deepEqual(
    (await world.journal()).audits,
    points.map(({ id, journal }) => ({ pointId: id, ordinal: journal?.ordinal ?? 0, fault: null })),
  );
  t.is((await world.journal()).end, null);
  await world.auditing.look();
  t.is(world.replays.length, 2, 'what is audited is not audited again');
  t.true(world.logged.every(({ level }) => level === 'debug'));
});

test('blocks are loaded a window at a time, and the result is the same', async (t) => {
  const world = await World.make(t, { windowBytes: 2 * BLOCK + 1 });
  await withBase(world);
  change(world);
  const position = world.device.hold();
  await world.device.backUp(position);
  await world.device.ship();
  // A store gives as many of the wanted blocks as one answer may have.
  const { blocks } = world.store;
  world.store.blocks = (point, wanted, take) =>
    blocks.call(world.store, point, wanted.slice(0, 1), take as never) as never;
  await world.auditing.look();
  t.deepEqual(await world.audits(), [null]);
  t.is(world.replays[0]?.windowCount, 4, 'of blocks 0, 1, 2, 3, 6, 7, 8 and 15');
  t.is(world.replays[0]?.blocksMost, 2);
});

test('an audit waits for the records up to its point', async (t) => {
  const world = await World.make(t);
  await withBase(world);
  change(world);
  const position = world.device.hold();
  const instant = world.device.spool.pop() as Buffer;
  await world.device.backUp(position);
  await world.device.ship();
  await world.auditing.look();
  t.deepEqual(await world.audits(), []);
  world.device.spool.push(instant);
  await world.device.ship();
  await world.auditing.look();
  t.deepEqual(await world.audits(), [null]);
});

type Wrong = (world: World) => Promise<JournalPosition> | JournalPosition;

const WRONGS: readonly (readonly [what: string, fault: RegExp, wrong: Wrong])[] = [
  [
    'a write that the journal does not have, of a block that it does not touch',
    /^block 9 of point disk@2 differs from that of disk@1, and no record touches it$/,
    ({ device }) => {
      device.content.fill(1, 9 * BLOCK, 9 * BLOCK + 1);
      return device.hold();
    },
  ],
  [
    'a write that the journal does not have, of a block that it touches',
    /^block 1 of point disk@2 is not what disk@1 and the records after it give$/,
    ({ device }) => {
      device.content[BLOCK + 7] = 99;
      return device.hold();
    },
  ],
  [
    'a record of what was never written',
    /^block 2 of point disk@2 is not what/,
    ({ device }) => {
      device.write(2 * BLOCK + 10, bytes(1, 77));
      device.content[2 * BLOCK + 10] = 3;
      return device.hold();
    },
  ],
  [
    'a record of what was never written where nothing is',
    /^block 12 of point disk@2 is not what/,
    ({ device }) => {
      device.write(12 * BLOCK, bytes(1, 77));
      device.content[12 * BLOCK] = 0;
      return device.hold();
    },
  ],
  [
    'two writes in the other order',
    /^block 0 of point disk@2 is not what/,
    ({ device }) => {
      device.write(0, bytes(4, 1));
      device.write(2, bytes(4, 2));
      device.content.set([1, 1, 1, 1, 2, 2], 0);
      return device.hold();
    },
  ],
  [
    'a write after the instant that the point has',
    /^block 1[01] of point disk@2/,
    ({ device }) => {
      const position = device.hold();
      device.write(11 * BLOCK, bytes(1, 1));
      return position;
    },
  ],
  [
    'an instant that is not at the record that the point names',
    /^record 9 is the last one up to the instant of point disk@2, which says that it is record 8$/,
    ({ device }) => {
      const position = device.hold();
      return { ...position, ordinal: position.ordinal - 1 };
    },
  ],
  [
    'a record behind the end of the device',
    /^records after 1 are damaged: /,
    ({ device }) => {
      device.zero(16 * BLOCK - 1, 2);
      return device.hold();
    },
  ],
];

for (const [what, fault, wrong] of WRONGS)
  test(`a fault: ${what}`, async (t) => {
    const told: unknown[] = [];
    const world = await World.make(t, { onAudit: ({ device }, audit) => told.push([device, audit.fault]) });
    await withBase(world);
    change(world);
    await world.device.backUp(await wrong(world));
    await world.device.ship();
    await world.auditing.look();
    const [found, ...more] = await world.audits();
    t.deepEqual(more, []);
    t.regex(found ?? 'null', fault);
    t.deepEqual(told, [['disk', found]]);
    t.deepEqual(world.logged, [{ level: 'error', event: 'journal-fault', reason: found }]);
    // It has ended: the agent is told at its next append.
    world.device.write(0, bytes(1, 1));
    await t.throwsAsync(world.device.ship(), { code: 'journal-closed' });
    await world.auditing.look();
    t.is(world.replays.length, 1);
  });

test('blocks that a point has no content of are not compared', async (t) => {
  const world = await World.make(t);
  const { device } = world;
  const base = { byteOffset: BLOCK, byteLength: 512, content: 'filler' } as const;
  device.content.fill(1, 0, 4 * BLOCK);
  await device.backUp(device.hold(), { badRanges: [base] });
  device.content.fill(2, BLOCK, 2 * BLOCK);
  device.write(BLOCK + 3, bytes(5, 5));
  device.content.fill(0, 9 * BLOCK, 10 * BLOCK);
  const position = device.hold();
  device.content.fill(3, 9 * BLOCK, 9 * BLOCK + 512);
  device.content.fill(4, 12 * BLOCK, 13 * BLOCK);
  await device.backUp(position, {
    badRanges: [{ byteOffset: 9 * BLOCK, byteLength: 512, content: 'filler' }],
    excluded: [{ byteOffset: 12 * BLOCK, byteLength: BLOCK, reason: 'swap' }],
  });
  await device.ship();
  await world.auditing.look();
  t.deepEqual(await world.audits(), [null]);
});

test('damage of a point is not the fault of its journal: the audit is made later', async (t) => {
  const world = await World.make(t);
  await withBase(world);
  change(world);
  await world.device.backUp(world.device.hold());
  await world.device.ship();
  const { blocks } = world.store;
  let calls = 0;
  world.store.blocks = async (): Promise<never> => {
    calls += 1;
    throw new StillpointError('store-damaged', { thing: 'block 1', reason: 'it is damaged' });
  };
  await world.auditing.look();
  await world.auditing.look();
  t.is(calls, 1, 'it is not tried again and again');
  t.deepEqual(await world.audits(), []);
  t.deepEqual(
    world.logged.map(({ level, event }) => [level, event]),
    [['warn', 'journal-audit-failed']],
  );
  world.store.blocks = blocks;
  world.nowMs += 3_600_000;
  await world.auditing.look();
  t.deepEqual(await world.audits(), [null]);
});

test('damage of records is a fault of the journal', async (t) => {
  const world = await World.make(t);
  await withBase(world);
  change(world);
  await world.device.backUp(world.device.hold());
  await world.device.ship();
  world.store.journals.records = async (): Promise<Buffer> => {
    throw new StillpointError('store-damaged', { thing: 'file 1', reason: 'a checksum is wrong' });
  };
  await world.auditing.look();
  t.deepEqual(await world.audits(), ['records are damaged: a checksum is wrong']);
});

test('an audit ends when the receiver does, and is made after its next start', async (t) => {
  const world = await World.make(t);
  await withBase(world);
  change(world);
  await world.device.backUp(world.device.hold());
  await world.device.ship();
  const looking = world.auditing.look();
  await world.auditing.close();
  await looking;
  t.deepEqual(await world.audits(), []);
  t.deepEqual(world.logged, []);
  const again = new Auditing({
    ...{ store: world.store, hasSessions: () => false, log: { debug: () => undefined } as unknown as Logger },
    noteAudit: (...noted) => world.store.journals.noteAudit(...noted),
  });
  t.teardown(() => again.close());
  await again.look();
  t.deepEqual(await world.audits(), [null]);
});
