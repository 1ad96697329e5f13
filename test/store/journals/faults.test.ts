/** A journal's whole life, on a disk that fails, crashes or loses power at any of its steps. */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import type { StoreJournals } from '../../../src/store/journals/journals.js';
import { journalRecords } from '../../helpers/bytes/journal-records.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { type Fault, FaultyDisk, PowerLossDisk, type Step } from '../../helpers/faults/disk.js';
import {
  allRecords,
  CLOCK,
  idOf,
  JOURNAL,
  journalsDir,
  openJournals,
  readJournals,
  WEB,
} from '../../helpers/journals/store-journals.js';
import { plainRandom } from '../../helpers/seed.js';

const AGENT = WEB.agent;
const END = { reason: 'it broke', stamp: '1800000000000012001', lastOrdinal: 12 };
const AUDIT = { pointId: idOf('a'), ordinal: 6, fault: null };
const LAST = 12;

/** What was answered. */
interface Progress {
  isBegun: boolean;
  last: number;
  isAudited: boolean;
  isTrimmed: boolean;
  isEnded: boolean;
}

const none = (): Progress => ({
  ...{ isBegun: false, last: 0, isAudited: false, isTrimmed: false, isEnded: false },
});

type Act = (journals: StoreJournals, progress: Progress) => Promise<void>;

const append =
  (first: number, last: number): Act =>
  async (journals, progress) => {
    const appended = await journals.append(AGENT, JOURNAL, journalRecords(first, last));
    progress.last = Math.max(progress.last, appended.last?.ordinal ?? 0);
  };

const LIFE: readonly Act[] = [
  async (journals, progress) => {
    await journals.begin(WEB, JOURNAL, CLOCK);
    progress.isBegun = true;
  },
  append(1, 3),
  append(4, 5),
  async (journals, progress) => {
    const both = [append(6, 7)(journals, progress), append(8, 8)(journals, progress)];
    const failed = (await Promise.allSettled(both)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  },
  async (journals, progress) => {
    await journals.noteAudit(AGENT, JOURNAL, AUDIT);
    progress.isAudited = true;
  },
  async (journals, progress) => {
    await journals.trim(AGENT, JOURNAL, 6);
    progress.isTrimmed = true;
  },
  append(9, LAST),
  async (journals, progress) => {
    await journals.end(AGENT, JOURNAL, END);
    progress.isEnded = true;
  },
];

async function live(journals: StoreJournals, progress: Progress): Promise<void> {
  for (const act of LIFE) await act(journals, progress);
}

async function checkJournals(
  t: ExecutionContext,
  dir: string,
  journals: StoreJournals,
  progress: Progress,
  what: string,
): Promise<void> {
  const stored = await journals.find(AGENT, JOURNAL);
  t.true(stored !== null || !progress.isBegun, `${what}: it is there`);
  t.deepEqual(await journals.check(), [], what);
  if (stored === null) return;
  const { first, last, end, audits } = stored;
  t.true((last?.ordinal ?? 0) >= progress.last, `${what}: no answered record is lost`);
  if (progress.isTrimmed) t.true((first?.ordinal ?? 0) > 3, `${what}: trimmed`);
  if (progress.isAudited) t.deepEqual(audits, [AUDIT], what);
  if (progress.isEnded) t.deepEqual(end, END, what);
  const from = (first?.ordinal ?? 1) - 1;
  for (const view of [journals, readJournals(dir)]) {
    const records = await allRecords(view, 2000, JOURNAL, from);
    const expected = last === null ? Buffer.alloc(0) : journalRecords(from + 1, last.ordinal);
    t.true(records.equals(expected), `${what}: records ${from + 1} to ${last?.ordinal}`);
  }
}

type Plan = (step: Step) => Fault | null;
const at =
  (fault: Fault) =>
  (failing: number): Plan =>
  ({ number }) =>
    number === failing ? fault : null;
const shortAt = (failing: number): Plan => {
  let appends = 0;
  return ({ name }) => {
    if (name !== 'append') return null;
    appends += 1;
    return appends === failing ? { short: 'ENOSPC' } : null;
  };
};

/** For every step that there is. */
async function forEveryStep(
  makePlan: (failing: number) => Plan,
  run: (plan: Plan, what: () => string) => Promise<void>,
): Promise<number> {
  for (let failing = 1; ; failing += 1) {
    let fired: string | null = null;
    const plan = makePlan(failing);
    await run(
      (step) => {
        const fault = plan(step);
        if (fault !== null) fired ??= `${failing}: ${step.name} ${step.path}`;
        return fault;
      },
      () => fired ?? 'no fault',
    );
    if (fired === null) return failing - 1;
  }
}

async function liveUntil(dir: string, disk: Disk): Promise<Progress> {
  const progress = none();
  try {
    const journals = await openJournals(dir, disk);
    await live(journals, progress);
  } catch {}
  return progress;
}

test.serial('killed at any step', async (t) => {
  const steps = await forEveryStep(at('crash'), async (plan, what) => {
    const dir = await journalsDir(t);
    const progress = await liveUntil(dir, new FaultyDisk(nodeDisk, plan));
    const reopened = await openJournals(dir);
    await checkJournals(t, dir, reopened, progress, what());
    const whole = none();
    await live(reopened, whole);
    await checkJournals(t, dir, reopened, whole, what());
    t.is((await reopened.find(AGENT, JOURNAL))?.last?.ordinal, LAST);
  });
  t.true(steps > 60, `${steps} steps`);
});

for (const keep of [0, 0.5]) {
  test.serial(`power lost at any step, ${keep * 100} % of what was not synced is there`, async (t) => {
    const random = plainRandom(77);
    await forEveryStep(at('crash'), async (plan, what) => {
      const dir = await journalsDir(t);
      const power = new PowerLossDisk(await tempDir(t));
      const progress = await liveUntil(dir, new FaultyDisk(power, plan));
      await power.losePower(keep, random);
      const reopened = await openJournals(dir);
      await checkJournals(t, dir, reopened, progress, what());
      await live(reopened, none());
      t.is((await reopened.find(AGENT, JOURNAL))?.last?.ordinal, LAST);
    });
  });
}

test.serial('killed, then power lost: what was found and answered after the kill is there', async (t) => {
  await forEveryStep(at('crash'), async (plan, what) => {
    const dir = await journalsDir(t);
    const power = new PowerLossDisk(await tempDir(t));
    await liveUntil(dir, new FaultyDisk(power, plan));
    const again = await openJournals(dir, power);
    const answered = none();
    for (const act of LIFE.slice(0, 2)) await act(again, answered);
    answered.last = (await again.find(AGENT, JOURNAL))?.last?.ordinal ?? 0;
    await again.close();
    await power.losePower(0, plainRandom(1));
    await checkJournals(t, dir, await openJournals(dir), answered, what());
  });
});

for (const [name, makePlan] of [
  ['EIO', at('EIO')],
  ['ENOSPC', at('ENOSPC')],
  ['a part is written, then ENOSPC', shortAt],
] as const) {
  test.serial(`${name} once, at any step: the same journals go on`, async (t) => {
    await forEveryStep(makePlan, async (plan, what) => {
      const dir = await journalsDir(t);
      const power = new PowerLossDisk(await tempDir(t));
      let isOver = false;
      const disk = new FaultyDisk(power, (step) => (isOver ? null : plan(step)));
      const journals = await openJournals(dir, disk).catch(() => openJournals(dir, disk));
      const progress = none();
      for (const act of LIFE) {
        await act(journals, progress).catch((error) => {
          t.true(isStillpointError(error), `${what()}: ${String(error)}`);
          return act(journals, progress);
        });
      }
      isOver = true;
      t.is(progress.last, LAST, what());
      await checkJournals(t, dir, journals, progress, what());
      await journals.close();
      await power.losePower(0, plainRandom(1));
      await checkJournals(t, dir, await openJournals(dir), progress, what());
    });
  });
}

test.serial(
  'an agent is renamed, killed at any step: all is there, and the same again ends it',
  async (t) => {
    const template = await journalsDir(t);
    const made = await openJournals(template);
    await live(made, none());
    await made.begin({ ...WEB, device: 'wal' }, idOf('2'), CLOCK);
    const expected = (await made.list({})).map((stored) => ({ ...stored, agent: 'web2' }));
    await forEveryStep(at('crash'), async (plan, what) => {
      const dir = join(await tempDir(t), 'store');
      await cp(template, dir, { recursive: true });
      const power = new PowerLossDisk(await tempDir(t));
      try {
        const journals = await openJournals(dir, new FaultyDisk(power, plan));
        await journals.renameAgent(AGENT, 'web2');
      } catch {}
      await power.losePower(0, plainRandom(1));
      const reopened = await openJournals(dir);
      t.deepEqual(await reopened.check(), [], what());
      const found = (await reopened.list({})).map((stored) => ({ ...stored, agent: 'web2' }));
      t.deepEqual(
        found.sort((a, b) => (a.device < b.device ? -1 : 1)),
        expected,
        what(),
      );
      await reopened.renameAgent(AGENT, 'web2');
      t.deepEqual(await reopened.list({}), expected, what());
      t.deepEqual(await (await openJournals(dir)).list({}), expected, what());
    });
  },
);

test.serial('one is removed, killed at any step: it is there as a whole, or not at all', async (t) => {
  const template = await journalsDir(t);
  await live(await openJournals(template), none());
  await forEveryStep(at('crash'), async (plan, what) => {
    const dir = join(await tempDir(t), 'store');
    await cp(template, dir, { recursive: true });
    try {
      const journals = await openJournals(dir, new FaultyDisk(nodeDisk, plan));
      await journals.remove(AGENT, JOURNAL);
    } catch {}
    const reopened = await openJournals(dir);
    t.deepEqual(await reopened.check(), [], what());
    const stored = await reopened.find(AGENT, JOURNAL);
    if (stored !== null) t.is((await allRecords(readJournals(dir), 9, JOURNAL, 6)).length, 6 * (64 + 512));
    const left = await nodeDisk.list(join(dir, 'journals', AGENT, WEB.device));
    t.is(left.length, stored === null ? 0 : 1, what());
  });
});

test('a full disk: journals leave room that sessions may still use', async (t) => {
  const dir = await journalsDir(t);
  let freeBytes = 1e9;
  const disk: Disk = { ...nodeDisk, room: async () => ({ totalBytes: 16e9, freeBytes }) };
  const journals = await openJournals(dir, disk);
  await journals.begin(WEB, JOURNAL, CLOCK);
  freeBytes = 2 * 256 * 1024 * 1024 + 100;
  const full = await t.throwsAsync(journals.append(AGENT, JOURNAL, journalRecords(1, 3)));
  t.true(isStillpointError(full, 'store-full'));
  freeBytes += 4096;
  await journals.append(AGENT, JOURNAL, journalRecords(1, 3));
  t.is((await journals.find(AGENT, JOURNAL))?.last?.ordinal, 3);
});
