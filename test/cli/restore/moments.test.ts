/**
 * `restore data@TIME` over a receiver in the process: whatever second is named, what comes out are the bytes
 * that a writer recorded at that second.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { runBackup } from '../../../src/agent/backup/backup.js';
import { runRestore } from '../../../src/agent/restore/restore.js';
import { findPoint, findRestorable } from '../../../src/cli/common/point-argument.js';
import type { JournalPosition } from '../../../src/domain/journal/journal.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { type JournalRecord, journalRecord } from '../../helpers/bytes/journal-records.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { providerAt } from '../../helpers/journals/provider-at.js';
import { CLOCK_ID, isoAt, journalIdOf, stampAt } from '../../helpers/journals/stored-journals.js';
import { refused } from '../../helpers/refused.js';
import { type Random, seededRandom } from '../../helpers/seed.js';

const SIZE = 40 * 65_536;
const DEVICE = 'disk1';

type Mark = Pick<JournalRecord, 'ordinal' | 'stamp'>;

interface World {
  readonly receiver: ReceiverPort;
  readonly store: MemoryStore;
  /** The device at the end of each second. */
  readonly history: Buffer[];
  restore(text: string): Promise<{ bytes: Buffer; kind: string }>;
}

/** A tap whose journal breaks in the middle; points every now and then, one of them past the tap. */
async function world(t: ExecutionContext, random: Random, seconds: number): Promise<World> {
  const directory = await temporaryDirectory(t, 'moments');
  const [image, target, stateDirectory] = ['disk.img', 'target.img', 'state'].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  const store = new MemoryStore();
  const service = await ReceiverService.open(store);
  const receiver = agentReceiver(service, 'web1');
  t.teardown(() => service.close());
  const disk = Buffer.alloc(SIZE);
  const history: Buffer[] = [];
  let journal = 0;
  let ordinal = 0;
  let isOpen = false;
  const ship = async (second: number, make: (mark: Mark) => JournalRecord) => {
    ordinal += 1;
    const record = journalRecord(make({ ordinal, stamp: stampAt(second) }));
    await receiver.appendJournal(journalIdOf(journal), record);
  };
  const point = async (second: number, position?: JournalPosition) => {
    await writeFile(image, disk);
    const options = { receiver, path: image, device: DEVICE, stateDirectory };
    await runBackup({ ...options, provider: providerAt(image, second, position) });
  };
  for (let second = 0; second < seconds; second += 1) {
    const event = second % 12;
    if (event === 0) {
      if (!isOpen) {
        [journal, ordinal, isOpen] = [journal + 1, 0, true];
        await receiver.beginJournal(DEVICE, journalIdOf(journal), CLOCK_ID);
      }
      await ship(second, (mark) => ({ ...mark, kind: 'instant', sessionId: 'ab'.repeat(16) }));
      await point(second, {
        journalId: journalIdOf(journal),
        clockId: CLOCK_ID,
        ordinal,
        stamp: stampAt(second),
      });
    } else if (second === 30) {
      isOpen = false;
      await receiver.endJournal(journalIdOf(journal), {
        reason: 'a test',
        stamp: stampAt(second),
        lastOrdinal: ordinal,
      });
    } else if (second === 33) await point(second);
    else {
      const byteOffset = random.below(SIZE - 9000);
      const payload = Buffer.alloc(1 + random.below(9000), `${second}.`);
      disk.set(payload, byteOffset);
      if (isOpen) await ship(second, (mark) => ({ ...mark, kind: 'write', byteOffset, payload }));
    }
    history.push(Buffer.from(disk));
  }
  const restore = async (text: string) => {
    const found = await findRestorable(receiver, text);
    if (found.kind === 'group') throw new Error('a group');
    const moment = found.kind === 'moment' ? found.moment : undefined;
    await runRestore({
      ...{ receiver, point: found.kind === 'moment' ? found.moment.base : found.point, moment, target },
      ...{ stateDirectory, overwrite: true },
    });
    return { bytes: await readFile(target), kind: found.kind };
  };
  return { receiver, store, history, restore };
}

test.serial('each second comes out as it was, as long as the receiver has it', async (t) => {
  const random = seededRandom(t);
  const { history, restore, receiver } = await world(t, random, 48);
  const kinds = new Set<string>();
  for (const second of [
    0,
    11,
    12,
    29,
    30,
    31,
    32,
    33,
    34,
    35,
    36,
    47,
    ...Array.from({ length: 6 }, () => random.below(48)),
  ]) {
    // The journal broke at 30 s; until the next one begins there is one point, of 33 s.
    const known = second >= 30 && second < 33 ? 29 : second > 33 && second < 36 ? 33 : second;
    const { bytes, kind } = await restore(`${DEVICE}@${isoAt(second).replace('.000', '')}`);
    t.true(bytes.equals(history[known] ?? Buffer.alloc(0)), `second ${second}`);
    kinds.add(kind);
  }
  t.deepEqual([...kinds].sort(), ['moment', 'point']);
  t.true((await restore(`${DEVICE}@latest`)).bytes.equals(history[36] ?? disk0));
  t.true((await restore(`${DEVICE}@2`)).bytes.equals(history[12] ?? disk0));
  t.true((await restore(`${DEVICE}@2026-03-02`)).bytes.equals(history[47] ?? disk0));
  t.is(
    (await findPoint(receiver, `${DEVICE}@${isoAt(29)}`)).sequence,
    3,
    'who needs a point gets the one before',
  );
  await refused(t, findRestorable(receiver, `${DEVICE}@2026-02-01`), 'point-unknown');
  await refused(t, findRestorable(receiver, `other@2026-03-02`), 'device-unknown');
});

const disk0 = Buffer.alloc(0);

test.serial('what an audit refuses is not restored, and says what is', async (t) => {
  const { receiver, store, history, restore } = await world(t, seededRandom(t), 48);
  const [, second, third] = await receiver.points(DEVICE);
  const [position, at] = [second?.journal, third?.journal];
  if (second === undefined || third === undefined || position === undefined || at === undefined)
    return t.fail();
  await store.journals.noteAudit('web1', journalIdOf(1), {
    pointId: second.id,
    ordinal: position.ordinal,
    fault: null,
  });
  await store.journals.noteAudit('web1', journalIdOf(1), {
    pointId: third.id,
    ordinal: at.ordinal,
    fault: '1 block differs',
  });
  t.true((await restore(`${DEVICE}@${isoAt(7)}`)).bytes.equals(history[7] ?? disk0));
  await refused(
    t,
    restore(`${DEVICE}@${isoAt(15)}`),
    'journal-faulty',
    /1 block differs, as the later point disk1@3 showed\. Restore disk1@2/,
  );
  t.is((await restore(`${DEVICE}@${isoAt(26)}`)).kind, 'point');
});
