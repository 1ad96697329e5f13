/**
 * The packs that ended sessions left in packs/ without a point: one record for each session in partial/
 * (docs/format.md sections 5 and 6), all of them in memory. A record is written before its capture ends, and
 * is removed when its packs are removed or needed.
 */
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { MiB, PARTIAL_SETS_PER_AGENT_MAX } from '../../domain/base/limits.js';
import { isHexId } from '../../domain/base/names.js';
import type { PartialSet } from '../../domain/session/messages.js';
import { type Disk, makeDirs, readSmallFile, temporaryFor, writeDurably } from '../disk/disk.js';
import { PARTIAL_DIR } from '../disk/layout.js';
import { decodeSealed, encodeSealed } from '../disk/sealed-text.js';
import type { CaptureDescription, DeviceKey, PointsKey } from '../port/store.js';

/** A pack takes some 40 bytes: enough for what a session of more than 50 TiB delivers. */
const RECORD_BYTES_MAX = 64 * MiB;

export interface PartialRecord extends DeviceKey {
  readonly sessionId: string;
  /** Of the session, by the receiver's clock, as the other times. Null: a former version wrote the record. */
  readonly begunAt: string | null;
  readonly lastActivityAt: string;
  readonly endedAt: string;
  readonly durableBytes: number;
  readonly packIds: readonly string[];
}

/** An open session, as it is listed. */
export interface OpenCapture {
  readonly description: CaptureDescription;
  readonly durableBytes: number;
  readonly lastActivityAt: Date;
}

export interface PartialSetsOptions {
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly keepMs: number;
  readonly log: (message: string) => void;
}

export class PartialSets {
  readonly #options: PartialSetsOptions;
  readonly #records = new Map<string, PartialRecord>();
  /** Names of records that can't be read. */
  readonly #damaged = new Set<string>();

  constructor(options: PartialSetsOptions) {
    this.#options = options;
  }

  get keepMs(): number {
    return this.#options.keepMs;
  }

  /**
   * Reads all records. Whoever else's files there are is not looked at.
   * @param tidy remove what an interrupted write left
   */
  async load({ tidy }: { readonly tidy: boolean }): Promise<void> {
    const { disk, dir, log } = this.#options;
    for (const { name } of await disk.list(join(dir, PARTIAL_DIR))) {
      if (tidy && isHexId(temporaryFor(name) ?? '')) await disk.remove(join(dir, PARTIAL_DIR, name));
      if (!isHexId(name)) continue;
      const record = await this.#read(name);
      if ('reason' in record) {
        log(`${PARTIAL_DIR}/${name}: ${record.reason}; what it names is collected with the rest`);
        this.#damaged.add(name);
      } else this.#records.set(name, record);
    }
  }

  async #read(name: string): Promise<PartialRecord | { readonly reason: string }> {
    const { disk, dir } = this.#options;
    const path = join(dir, PARTIAL_DIR, name);
    try {
      const bytes = await readSmallFile(disk, path, RECORD_BYTES_MAX);
      return decodeRecord(bytes ?? Buffer.alloc(0), name, path);
    } catch (error) {
      return { reason: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Durable when it resolves. What an earlier session of the same id left is in it too. */
  async add(record: PartialRecord): Promise<void> {
    const earlier = this.#records.get(record.sessionId);
    const packIds = [...new Set([...(earlier?.packIds ?? []), ...record.packIds])];
    const whole = { ...record, packIds };
    const { disk, dir } = this.#options;
    await makeDirs(disk, dir, PARTIAL_DIR);
    await writeDurably(
      disk,
      join(dir, PARTIAL_DIR, record.sessionId),
      encodeSealed('stillpoint-partial', whole),
    );
    this.#records.set(record.sessionId, whole);
  }

  /** Durable when it resolves; no error if there is none. */
  async remove(sessionId: string): Promise<void> {
    const { disk, dir } = this.#options;
    await disk.remove(join(dir, PARTIAL_DIR, sessionId));
    await disk.syncDir(join(dir, PARTIAL_DIR));
    this.#records.delete(sessionId);
  }

  /** Durable when it resolves; may be done again. */
  async rename(from: string, to: string): Promise<void> {
    for (const { sessionId, agent } of [...this.#records.values()]) {
      const record = this.#records.get(sessionId);
      if (agent === from && record !== undefined) await this.add({ ...record, agent: to });
    }
  }

  all(): PartialRecord[] {
    return [...this.#records.values()];
  }

  /** After a collection of all that nobody needs: nothing is left that they could name. */
  async removeDamaged(): Promise<void> {
    for (const sessionId of this.#damaged) await this.remove(sessionId);
    this.#damaged.clear();
  }

  has(sessionId: string): boolean {
    return this.#records.has(sessionId);
  }

  /**
   * By device, then by last activity: those that are open, and those that ended. Each with its agent, if
   * those of all agents are asked for.
   */
  list({ agent, device }: PointsKey, open: readonly OpenCapture[]): PartialSet[] {
    const openIds = new Set(open.map(({ description }) => description.sessionId));
    const ended = [...this.#records.values()].filter(({ sessionId }) => !openIds.has(sessionId));
    const told = (set: TheirsAndWhen, state: PartialSet['state']): PartialSet => ({
      ...(agent === undefined ? { agent: set.agent } : {}),
      ...{ device: set.device, sessionId: set.sessionId, begunAt: set.begunAt, state },
      ...{ durableBytes: set.durableBytes, lastActivityAt: set.lastActivityAt },
      expiresAt: new Date(Date.parse(set.lastActivityAt) + this.keepMs).toISOString(),
    });
    const isAsked = (set: DeviceKey) =>
      (agent === undefined || set.agent === agent) && (device === undefined || set.device === device);
    return [
      ...open
        .map((set) => ({ ...set.description, begunAt: set.description.begunAt ?? null, ...times(set) }))
        .filter(isAsked)
        .map((set) => told(set, 'open')),
      ...ended.filter(isAsked).map((set) => told(set, 'ended')),
    ].sort(byDeviceAndTime);
  }

  /** Those that are kept no longer: their time is over, or their agent has too many. */
  due(now: Date): PartialRecord[] {
    const due: PartialRecord[] = [];
    const kept = new Map<string, number>();
    const newestFirst = [...this.#records.values()].sort((a, b) =>
      a.lastActivityAt < b.lastActivityAt ? 1 : -1,
    );
    for (const record of newestFirst) {
      const count = kept.get(record.agent) ?? 0;
      const isOver = Date.parse(record.lastActivityAt) + this.keepMs <= now.getTime();
      if (isOver || count >= PARTIAL_SETS_PER_AGENT_MAX) due.push(record);
      else kept.set(record.agent, count + 1);
    }
    return due;
  }

  /** For verify: what is wrong with the files. */
  async check(): Promise<{ what: string; reason: string }[]> {
    const { disk, dir } = this.#options;
    const findings: { what: string; reason: string }[] = [];
    for (const { name } of await disk.list(join(dir, PARTIAL_DIR))) {
      if (!isHexId(name)) continue;
      const record = await this.#read(name);
      if (!('reason' in record)) continue;
      // One that went meanwhile was collected.
      if ((await disk.size(join(dir, PARTIAL_DIR, name))) === null) continue;
      findings.push({ what: `${PARTIAL_DIR}/${name}`, reason: record.reason });
    }
    return findings;
  }
}

type TheirsAndWhen = Pick<
  PartialRecord,
  'agent' | 'device' | 'sessionId' | 'begunAt' | 'lastActivityAt' | 'durableBytes'
>;

function times({
  durableBytes,
  lastActivityAt,
}: OpenCapture): Pick<TheirsAndWhen, 'durableBytes' | 'lastActivityAt'> {
  return { durableBytes, lastActivityAt: lastActivityAt.toISOString() };
}

function byDeviceAndTime(a: PartialSet, b: PartialSet): number {
  return (
    compareText(a.agent ?? '', b.agent ?? '') ||
    compareText(a.device, b.device) ||
    compareText(a.lastActivityAt, b.lastActivityAt)
  );
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** @throws StillpointError `store-damaged`, `version` */
function decodeRecord(bytes: Buffer, sessionId: string, thing: string): PartialRecord {
  const { version, body } = decodeSealed('stillpoint-partial', bytes, thing);
  const { instant: _, ...known } = body;
  const record = (version === 1 ? { ...known, begunAt: null } : body) as unknown as PartialRecord;
  const isWhole =
    record.sessionId === sessionId &&
    typeof record.agent === 'string' &&
    typeof record.device === 'string' &&
    (record.begunAt === null || isTime(record.begunAt)) &&
    isTime(record.lastActivityAt) &&
    Number.isSafeInteger(record.durableBytes) &&
    Array.isArray(record.packIds) &&
    record.packIds.every((packId) => typeof packId === 'string' && isHexId(packId));
  if (isWhole) return record;
  throw new StillpointError('store-damaged', { thing, reason: 'it is not the record of this session' });
}

function isTime(value: unknown): boolean {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value));
}
