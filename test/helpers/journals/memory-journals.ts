/**
 * Journals in memory, as the suite of all journals asks (test/conformance/store/journals.ts). What they lack
 * is what disks are for: files, damage, and room that ends.
 */
import { StillpointError } from '../../../src/domain/base/errors.js';
import { JOURNAL_APPEND_BYTES_MAX, JOURNALS_PER_DEVICE_MAX } from '../../../src/domain/base/limits.js';
import {
  compareStamps,
  type JournalAppended,
  type JournalAudit,
  type JournalEnd,
  type JournalMark,
  type StoredJournal,
} from '../../../src/domain/journal/journal.js';
import type { JournalRead, Journals } from '../../../src/store/port/journals.js';
import type { DeviceKey, PointsKey } from '../../../src/store/port/store.js';
import { scanJournal } from '../bytes/journal-records.js';

interface HeldRecord extends JournalMark {
  readonly bytes: Buffer;
}

interface Held extends DeviceKey {
  readonly journalId: string;
  readonly clockId: string;
  records: HeldRecord[];
  end: JournalEnd | null;
  audits: JournalAudit[];
}

export class MemoryJournals implements Journals {
  #held: Held[] = [];

  async list({ agent, device }: PointsKey): Promise<StoredJournal[]> {
    return this.#held
      .filter((held) => (agent ?? held.agent) === held.agent && (device ?? held.device) === held.device)
      .map(storedOf)
      .sort(
        (a, b) =>
          compare(a.agent, b.agent) ||
          compare(a.device, b.device) ||
          compareStamps(a.first?.stamp ?? '9'.repeat(20), b.first?.stamp ?? '9'.repeat(20)) ||
          compare(a.journalId, b.journalId),
      );
  }

  async find(agent: string | null, journalId: string): Promise<StoredJournal | null> {
    const held = this.#find(agent, journalId);
    return held === undefined ? null : storedOf(held);
  }

  #find(agent: string | null, journalId: string): Held | undefined {
    const found = this.#held.filter(
      (held) => held.journalId === journalId && (agent === null || held.agent === agent),
    );
    if (found.length > 1) throw refuse('journal-unknown', journalId, 'several agents have it');
    return found[0];
  }

  #known(agent: string | null, journalId: string): Held {
    const held = this.#find(agent, journalId);
    if (held === undefined) throw refuse('journal-unknown', journalId, 'there is none with this id');
    return held;
  }

  async begin(key: DeviceKey, journalId: string, clockId: string): Promise<StoredJournal> {
    const { agent, device } = key;
    const held = this.#find(agent, journalId);
    if (held !== undefined && (held.device !== device || held.clockId !== clockId))
      throw refuse('bad-message', journalId, 'it is of another device or clock');
    if (held !== undefined) return storedOf(held);
    if ((await this.list(key)).length >= JOURNALS_PER_DEVICE_MAX)
      throw refuse('busy', journalId, 'the device has too many');
    const begun: Held = { agent, device, journalId, clockId, records: [], end: null, audits: [] };
    this.#held.push(begun);
    return storedOf(begun);
  }

  async append(agent: string, journalId: string, records: Uint8Array): Promise<JournalAppended> {
    this.#known(agent, journalId);
    if (records.length > JOURNAL_APPEND_BYTES_MAX)
      throw refuse('bad-message', journalId, 'they are too many');
    const taken = await splitRecords(records).catch((error) => {
      throw refuse('bad-message', journalId, String(error));
    });
    const held = this.#known(agent, journalId);
    const last = held.records.at(-1);
    const fresh = taken.filter(({ ordinal }) => ordinal > (last?.ordinal ?? 0));
    const [first] = fresh;
    if (first === undefined) return appendedOf(held);
    if (storedOf(held).end !== null) throw refuse('journal-closed', journalId, 'it has ended');
    if (first.ordinal !== (last?.ordinal ?? 0) + 1)
      throw refuse('journal-gap', journalId, 'records are missing before them');
    const again = taken.find(({ ordinal }) => ordinal === last?.ordinal);
    const isOther = again !== undefined && again.stamp !== last?.stamp;
    if (isOther || compareStamps(first.stamp, last?.stamp ?? '0') <= 0)
      throw refuse('bad-message', journalId, 'their stamps are not those that follow');
    held.records.push(...fresh);
    return appendedOf(held);
  }

  async end(agent: string, journalId: string, end: JournalEnd): Promise<void> {
    const held = this.#known(agent, journalId);
    if (storedOf(held).end === null) held.end = { ...end };
  }

  async records(agent: string | null, journalId: string, read: JournalRead): Promise<Buffer> {
    const { records } = this.#known(agent, journalId);
    const [first] = records;
    if (first !== undefined && read.afterOrdinal + 1 < first.ordinal)
      throw refuse('journal-gap', journalId, 'they were removed');
    const taken: Buffer[] = [];
    let byteLength = 0;
    for (const { ordinal, stamp, bytes } of records) {
      if (ordinal <= read.afterOrdinal) continue;
      const isTooMuch = taken.length > 0 && byteLength + bytes.length > read.bytesMax;
      if (isTooMuch || compareStamps(stamp, read.throughStamp) > 0) break;
      taken.push(bytes);
      byteLength += bytes.length;
    }
    return Buffer.concat(taken);
  }

  async noteAudit(agent: string, journalId: string, audit: JournalAudit): Promise<void> {
    const held = this.#known(agent, journalId);
    if (held.audits.some(({ pointId, fault }) => pointId === audit.pointId || fault !== null)) return;
    const isFault = audit.fault !== null;
    held.audits = held.audits.filter(({ ordinal }) => !isFault || ordinal <= audit.ordinal);
    held.audits = [...held.audits, { ...audit }].sort((a, b) => a.ordinal - b.ordinal);
  }

  async trim(agent: string, journalId: string, ordinal: number): Promise<number> {
    const held = this.#known(agent, journalId);
    const stays = (record: HeldRecord) => record.ordinal > ordinal || record === held.records.at(-1);
    return this.#drop(held, held.records.filter(stays));
  }

  async remove(agent: string, journalId: string): Promise<number> {
    const held = this.#find(agent, journalId);
    if (held === undefined) return 0;
    this.#held = this.#held.filter((other) => other !== held);
    return this.#drop(held, []);
  }

  /** With its device. */
  removeDevice(key: DeviceKey): void {
    this.#held = this.#held.filter(({ agent, device }) => agent !== key.agent || device !== key.device);
  }

  #drop(held: Held, records: HeldRecord[]): number {
    const freed = sizeOf(held.records) - sizeOf(records);
    held.records = records;
    return freed;
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function refuse(code: StillpointError['code'], journalId: string, reason: string): StillpointError {
  return new StillpointError(code, { thing: `journal ${journalId}`, reason });
}

function markOf(record: HeldRecord | undefined): JournalMark | null {
  return record === undefined ? null : { ordinal: record.ordinal, stamp: record.stamp };
}

function sizeOf(records: readonly HeldRecord[]): number {
  return records.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

function appendedOf({ records }: Held): JournalAppended {
  return { last: markOf(records.at(-1)) };
}

function storedOf({ records, end, audits, agent, device, journalId, clockId }: Held): StoredJournal {
  const last = markOf(records.at(-1));
  const fault = audits.at(-1)?.fault ?? null;
  const ended = { stamp: last?.stamp ?? '0', lastOrdinal: last?.ordinal ?? 0 };
  return {
    ...{ agent, device, journalId, clockId },
    ...{ first: markOf(records[0]), last, sizeBytes: sizeOf(records) },
    end: end ?? (fault === null ? null : { reason: `an audit found a fault: ${fault}`, ...ended }),
    audits: [...audits],
  };
}

async function splitRecords(bytes: Uint8Array): Promise<HeldRecord[]> {
  const records: HeldRecord[] = [];
  let last: HeldRecord | undefined;
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at);
    const run = await scanJournal(rest, { afterOrdinal: last?.ordinal ?? null, bytesMax: 1 });
    if (run.first === null) throw new Error('the last one is cut');
    if (last !== undefined && compareStamps(run.first.stamp, last.stamp) <= 0)
      throw new Error('their stamps do not ascend');
    last = { ...run.first, bytes: Buffer.from(rest.subarray(0, run.byteLength)) };
    records.push(last);
    at += run.byteLength;
  }
  return records;
}
