/** What every provider of instants must do (the table of src/capture/ports.ts), whatever is behind it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { NO_REST, prepareAll, snapshotsOf, takeInstant } from '../../../src/capture/instant.js';
import type {
  LatePasses,
  Member,
  Probe,
  ProbeRequest,
  Provider,
  Snapshot,
  Standstill,
} from '../../../src/capture/ports.js';
import { freeze } from '../../../src/capture/quiesce/freeze.js';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import type { Device } from '../../../src/native/index.js';
import { refused } from '../../helpers/refused.js';
import { type Requirement, testWith } from '../../helpers/requirements.js';
import { HOLD } from '../../helpers/worlds/quiesce.js';

export interface ProviderScene {
  readonly provider: Provider;
  /** Where it can take the device. */
  readonly request: ProbeRequest;
  /** What it is now. */
  read(block: number): Promise<Buffer>;
  /**
   * Through the way of its users: other bytes each time.
   * @returns when it is answered. Undefined: nobody writes while it is held.
   */
  write?(block: number): Promise<void>;
  /** A device that it can't take. */
  unable(): Promise<ProbeRequest>;
}

export const BLOCK = 4096;
const LIMITS = { closedMs: 10_000 };
/** Short, and long enough for a busy machine to close and look. */
const SHORT = { closedMs: 1_000 };

function blocksOf(ranges: readonly BlockRange[]): number[] {
  return ranges.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));
}

/** @returns all blocks of its passes, until the instant can be taken. */
async function exhaust(passes: Pick<LatePasses, 'next'>): Promise<Set<number>> {
  const blocks = new Set<number>();
  for (let ranges = await passes.next(); ranges !== null; ranges = await passes.next()) {
    for (const block of blocksOf(ranges)) blocks.add(block);
  }
  return blocks;
}

/** For a member that reads in its cut: what a freeze around it does, without a file system. */
function standstillOf({ cutting }: Member): Standstill | undefined {
  if (cutting === undefined) return undefined;
  return {
    takeCuts: async () => {
      const { cut, thaw } = await freeze([], {
        deadlineMs: LIMITS.closedMs,
        cuts: [cutting.descriptors],
        once: true,
      });
      await cut();
      await thaw();
    },
  };
}

type Can = Extract<Probe, { possible: true }>;

export function checkProvider(
  name: string,
  make: (t: ExecutionContext) => Promise<ProviderScene>,
  hasPasses = false,
  requirements: readonly Requirement[] = [],
): void {
  const test = (title: string, implementation: (t: ExecutionContext) => Promise<void>): void =>
    testWith(requirements, title, implementation);
  const scene = async (t: ExecutionContext) => {
    const made = await make(t);
    const ask = async (): Promise<Can> => {
      const probe = await made.provider.probe(made.request);
      if (!probe.possible) throw probe.refusal;
      return probe;
    };
    const prepare = async (): Promise<Member> => {
      const member = await (await ask()).prepare(HOLD);
      t.teardown(() => member.release());
      return { ...member, cut: () => member.cut(standstillOf(member)) };
    };
    return { ...made, ask, prepare };
  };
  const stillFree = async ({ prepare }: { prepare(): Promise<Member> }): Promise<void> =>
    (await prepare()).release();

  test(`${name}: asked, it says what it gives, and holds nothing`, async (t) => {
    const made = await scene(t);
    const [one, other] = [await made.ask(), await made.ask()];
    t.true(one.kinds.length > 0);
    for (const text of [one.reason, one.changes, one.cost]) t.regex(text, /^\S.*[^.]$/);
    t.is(other.reason, one.reason);
    await stillFree(made);
  });

  test(`${name}: where it can not take the device it says why, and what would help`, async (t) => {
    const { provider, unable } = await scene(t);
    const probe = await provider.probe(await unable());
    if (probe.possible) return t.fail(probe.reason);
    t.true(isStillpointError(probe.refusal));
    t.regex(probe.refusal.reason, /^\S.*[^.]$/);
    t.regex(probe.refusal.remedy ?? '', /\S/);
    t.true(probe.kinds.length > 0);
  });

  test(`${name}: steps out of order are refused, and change nothing`, async (t) => {
    const made = await scene(t);
    const member = await made.prepare();
    await t.throwsAsync(member.cut(), undefined, 'prepared');
    await member.open();
    await member.close(LIMITS);
    await member.close(LIMITS);
    const cut = await member.cut();
    await t.throwsAsync(member.cut(), undefined, 'cut');
    await t.throwsAsync(member.close(LIMITS), undefined, 'cut');
    await member.open();
    const snapshot = await cut.view('crash');
    await t.throwsAsync(cut.view('crash'), undefined, 'viewed');
    await member.release();
    t.deepEqual(await snapshot.device.read(0, BLOCK), await made.read(0));
    await snapshot.release();
    await snapshot.release();
    await t.throwsAsync(member.close(LIMITS), undefined, 'released');
    await stillFree(made);
  });

  test(`${name}: given back in any state, nothing is left`, async (t) => {
    const made = await scene(t);
    const reach: Record<string, (member: Member) => Promise<unknown>> = {
      prepared: async () => undefined,
      closed: (member) => member.close(LIMITS),
      opened: async (member) => {
        await member.close(LIMITS);
        await member.open();
      },
      cut: async (member) => {
        await member.close(LIMITS);
        return member.cut();
      },
    };
    for (const [state, step] of Object.entries(reach)) {
      const member = await made.prepare();
      await step(member);
      await member.release();
      await member.release();
      await t.throwsAsync(member.cut(), undefined, state);
      await made.write?.(1);
    }
    await stillFree(made);
  });

  test(`${name}: closed, and opened again: the next instant is as good`, async (t) => {
    const made = await scene(t);
    const member = await made.prepare();
    await member.close(LIMITS);
    await member.open();
    await made.write?.(1);
    await member.close(LIMITS);
    const fromMs = Date.now();
    const cut = await member.cut();
    t.true(cut.instant.getTime() >= fromMs && cut.instant.getTime() <= Date.now());
    const snapshot = await cut.view('crash');
    t.deepEqual(await snapshot.device.read(BLOCK, BLOCK), await made.read(1));
    await snapshot.release();
  });

  test(`${name}: after its limit it has opened by itself, and there is no instant`, async (t) => {
    const made = await scene(t);
    const member = await made.prepare();
    await member.close(SHORT);
    const write = made.write?.(1);
    await sleep(SHORT.closedMs + 20);
    await write;
    await refused(t, member.cut(), 'device-changed', /had to let writes go on/);
    await member.close(LIMITS);
    const snapshot = await (await member.cut()).view('crash');
    t.deepEqual(await snapshot.device.read(BLOCK, BLOCK), await made.read(1));
    await snapshot.release();
  });

  test(`${name}: nobody writes from the closing to the instant, and the snapshot stays as it was then`, async (t) => {
    const { prepare, read, write } = await scene(t);
    const member = await prepare();
    await write?.(1);
    await member.close(LIMITS);
    const before = await read(1);
    let isAnswered = false;
    const late = write?.(1).then(() => {
      isAnswered = true;
    });
    await sleep(300);
    // Without a gate it is the freeze around it that keeps writes out.
    const hasGate = member.barrier === 'gate';
    if (!hasGate) await late;
    t.is(isAnswered, !hasGate && write !== undefined);
    const atCut = await read(1);
    if (hasGate) t.deepEqual(atCut, before);
    const cut = await member.cut();
    await late;
    if (!hasGate) await write?.(1);
    const snapshot = await cut.view('crash');
    t.deepEqual(await snapshot.device.read(BLOCK, BLOCK), atCut);
    if (write !== undefined) t.notDeepEqual(await read(1), before);
    await snapshot.release();
  });

  test(`${name}: what can be read before the instant is told block by block, or nothing can`, async (t) => {
    const { prepare, read, write } = await scene(t);
    const member = await prepare();
    const { passes } = member;
    t.is(passes !== undefined, hasPasses);
    if (passes !== undefined) {
      await write?.(1);
      await exhaust(passes);
      await write?.(2);
      // What is little may be left for the cut.
      t.true((await exhaust(passes)).has(2) || member.cutting !== undefined);
      t.deepEqual(await passes.device.read(2 * BLOCK, BLOCK), await read(2));
      t.is(await passes.next(), null);
      t.is(await passes.next(), null);
      await member.close(LIMITS);
      await t.throwsAsync(passes.next(), undefined, 'closed');
    }
    await member.release();
    if (passes !== undefined) {
      await t.throwsAsync(passes.next(), undefined, 'released');
      t.false(await passes.again(new Error('there was no instant')));
    }
  });

  if (hasPasses) {
    test(`${name}: read in passes and then what is left, it is the device at its instant`, async (t) => {
      const made = await scene(t);
      const provider = snapshotsOf(name, async (_path, hold) => (await made.ask()).prepare(hold), NO_REST);
      const snapshot = await provider.hold(made.request.path, HOLD);
      const { passes } = snapshot;
      if (passes === undefined) return t.fail('it is not late');
      await t.throwsAsync(snapshot.conclude(), undefined, 'before its instant');
      const copy = Buffer.alloc(snapshot.device.sizeBytes);
      const readFrom = async (device: Device, blocks: Iterable<number>): Promise<void> => {
        for (const block of blocks) copy.set(await device.read(block * BLOCK, BLOCK), block * BLOCK);
      };
      for (const block of [1, 3, 1]) {
        await made.write?.(block);
        await readFrom(snapshot.device, await exhaust(passes));
      }
      await made.write?.(2);
      const fromMs = Date.now();
      const taken = await passes.take();
      const changes = taken?.tracking?.changes;
      if (taken === null || changes == null) return t.fail('it does not say what is left');
      await readFrom(taken.device, blocksOf(changes.ranges));
      for (let block = 0; block < copy.length / BLOCK; block += 1) {
        t.deepEqual(copy.subarray(block * BLOCK, (block + 1) * BLOCK), await made.read(block), String(block));
      }
      const { kind, instant, unproven } = await snapshot.conclude();
      t.true((instant?.getTime() ?? 0) >= fromMs);
      t.is(kind, taken.kind);
      t.is(unproven, undefined);
      await t.throwsAsync(passes.next(), undefined, 'taken');
      await t.throwsAsync(passes.take(), undefined, 'taken');
      await snapshot.release();
      await snapshot.release();
      await stillFree(made);
    });
  }

  test(`${name}: led, its snapshot has the kind that was reached, and how long writes stood still`, async (t) => {
    const made = await scene(t);
    const { kinds } = await made.ask();
    const members = await prepareAll([made.prepare]);
    const [snapshot] = (await takeInstant(members, { name: 'x', hooks: [], freeze: 'none' })) as [Snapshot];
    t.true(kinds.includes(snapshot.kind));
    const { kind, facts } = await snapshot.conclude();
    t.is(kind, snapshot.kind);
    const [barrier, closedMs] = [members[0]?.barrier, facts?.closedMs];
    // A freeze may be all that closes, or the cut itself keeps writes out for a moment.
    if (barrier === 'gate' || closedMs !== undefined) t.true(typeof closedMs === 'number' && closedMs >= 0);
    if (barrier === 'unused') t.is(closedMs, undefined);
    t.is(facts?.frozenMs, undefined);
    await snapshot.release();
    await stillFree(made);
  });
}
