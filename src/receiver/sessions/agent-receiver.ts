/**
 * The receiver as one agent may use it. Another agent's things are answered exactly like things that do not
 * exist.
 *
 * Everything that an agent sends is checked where it enters, as its message's row says: by the routes, or by
 * `agentReceiver` in the same process. This module checks what the message alone can't decide: names, order,
 * the point that it is about.
 */

import { StillpointError } from '../../domain/base/errors.js';
import {
  BATCH_BYTES_MAX,
  DIGEST_BYTES,
  HAVE_DIGESTS_MAX,
  JOURNAL_APPEND_BYTES_MAX,
} from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { blockCount, levelCount, treeHeight } from '../../domain/blocks/geometry.js';
import type { GroupCommand, GroupStepRequest } from '../../domain/group/steps.js';
import type { JournalAppended, JournalEnd, Stamp, StoredJournal } from '../../domain/journal/journal.js';
import type {
  AgentOrder,
  AwaitOrderRequest,
  OrderReport,
  OrderStanding,
  PlannedRound,
} from '../../domain/order/order.js';
import { seenByItsAgent } from '../../domain/point/group.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type {
  BeginAnswer,
  BeginRequest,
  CheckEvent,
  CheckOptions,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  PointDamage,
  PointsOptions,
  ReceiverInfo,
  RemovedAnswer,
  SessionStatus,
  VerifyEvent,
} from '../../domain/session/messages.js';
import { encodeBlocks } from '../../protocol/codecs/blocks-codec.js';
import { compareChildren, decodeQuestion, encodeAnswer } from '../../protocol/codecs/compare-codec.js';
import { encodeHeld } from '../../protocol/codecs/have-codec.js';
import { encodeNodes } from '../../protocol/codecs/nodes-codec.js';
import type { MessagePort } from '../../protocol/messages/table.js';
import { checked } from '../../protocol/port/checked.js';
import type { ReceiverPort } from '../../protocol/port/receiver.js';
import { nodeRequestsSchema, PROTOCOL_VERSION, parseMessage } from '../../protocol/schemas/messages.js';
import type { PointsKey } from '../../store/port/store.js';
import type { AuditEvent } from '../audit/entry.js';
import type { ReceiverService } from './service.js';

/** The receiver in the same process. Its service and its store stay the caller's to close. */
export function agentReceiver(service: ReceiverService, agent: string): ReceiverPort {
  return { ...checked(new AgentHandlers(service, agent)), close: async () => undefined };
}

/** Believes that what it is handed was checked. */
export class AgentHandlers implements MessagePort {
  readonly #service: ReceiverService;
  readonly #agent: string;
  /** Whose points are seen; null: those of all agents. */
  readonly #seen: string | null;
  readonly #address: string | undefined;

  constructor(
    service: ReceiverService,
    agent: string,
    { seesAll = false, address }: { readonly seesAll?: boolean; readonly address?: string } = {},
  ) {
    this.#address = address;
    this.#service = service;
    this.#agent = agent;
    this.#seen = seesAll ? null : agent;
  }

  async info(): Promise<ReceiverInfo> {
    return {
      storeId: this.#service.store.storeId,
      agent: this.#agent,
      protocolVersion: PROTOCOL_VERSION,
    };
  }

  async points(device?: string, { last = false }: PointsOptions = {}): Promise<Point[]> {
    const points = (await this.#service.store.points(this.#keyOf(device))).map((point) => this.#shown(point));
    const isSameDevice = (a: Point, b: Point | undefined) => a.device === b?.device && a.agent === b.agent;
    return last ? points.filter((point, at) => !isSameDevice(point, points[at + 1])) : points;
  }

  async partialSets(device?: string): Promise<PartialSet[]> {
    return this.#service.store.partialSets(this.#keyOf(device));
  }

  async removedPoint(device: string, sequence: number): Promise<RemovedAnswer> {
    const key = { agent: this.#agent, device: checkDevice(device) };
    return { removed: await this.#service.store.removedPoint(key, sequence) };
  }

  #keyOf(device: string | undefined): PointsKey {
    return {
      ...(this.#seen === null ? {} : { agent: this.#seen }),
      ...(device === undefined ? {} : { device: checkDevice(device) }),
    };
  }

  async begin(begin: BeginRequest): Promise<BeginAnswer> {
    checkDevice(begin.device);
    const answer = await this.#service.begin(this.#agent, begin);
    const { device, sessionId: session } = begin;
    this.#note({ what: answer.resumed ? 'session-resume' : 'session-begin', device, session });
    return { ...answer, base: answer.base === null ? null : this.#shown(answer.base) };
  }

  async have(sessionId: string, digests: Uint8Array): Promise<Uint8Array> {
    const count = digests.length / DIGEST_BYTES;
    if (!Number.isInteger(count) || count < 1 || count > HAVE_DIGESTS_MAX) {
      throw new StillpointError('bad-message', {
        thing: 'have',
        reason: `it has ${digests.length} bytes, not those of 1 to ${HAVE_DIGESTS_MAX} digests`,
      });
    }
    const session = this.#service.find(this.#agent, sessionId);
    const held = await (session?.have(digests) ?? this.#service.refuse(this.#agent, sessionId, 'have'));
    return encodeHeld(held, count);
  }

  async pieces(sessionId: string, blockIndexes: readonly number[]): Promise<Uint8Array> {
    checkAscending('pieces request', blockIndexes);
    const session = this.#service.find(this.#agent, sessionId);
    return session?.pieces(blockIndexes) ?? this.#service.refuse(this.#agent, sessionId, 'pieces');
  }

  async batch(sessionId: string, sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    checkLength(`batch ${sequence}`, body, BATCH_BYTES_MAX);
    const session = this.#service.find(this.#agent, sessionId);
    const admit = (bytes: number) => this.#service.admission.bytes(this.#agent, bytes);
    return session?.batch(sequence, body, admit) ?? this.#service.refuse(this.#agent, sessionId, 'batch');
  }

  async status(sessionId: string): Promise<SessionStatus> {
    const status = await this.#service.status(this.#agent, sessionId);
    return { ...status, point: status.point === null ? null : this.#shown(status.point) };
  }

  async commit(sessionId: string, request: CommitRequest): Promise<Point> {
    return this.#shown(await this.#service.commit(this.#agent, sessionId, request));
  }

  async abort(sessionId: string): Promise<void> {
    await this.#service.abort(this.#agent, sessionId);
  }

  async nodes(pointId: string, requests: readonly NodeRequest[]): Promise<Uint8Array> {
    return encodeNodes(await this.#nodes(await this.#point(pointId), requests));
  }

  async compareNodes(question: Uint8Array): Promise<Uint8Array> {
    const { pointId, nodes } = decodeQuestion(question);
    const requests = parseMessage(
      'compare question',
      nodeRequestsSchema,
      nodes.map(({ level, index }) => ({ level, index })),
    );
    const contents = await this.#nodes(await this.#point(pointId), requests);
    return encodeAnswer(nodes.map(({ content }, n) => compareChildren(content, contents[n] as Buffer)));
  }

  #nodes(point: Point, nodes: readonly NodeRequest[]): Promise<Buffer[]> {
    const height = treeHeight(point.geometry);
    for (const { level, index } of nodes) {
      if (level > height || index >= Math.max(1, levelCount(point.geometry, level))) {
        throw outside(point, `node ${index} of level ${level}`);
      }
    }
    return this.#service.store.nodes(point, nodes);
  }

  async blocks(pointId: string, blockIndexes: readonly number[]): Promise<Uint8Array> {
    const point = await this.#point(pointId);
    checkAscending('blocks request', blockIndexes);
    const last = blockIndexes.at(-1) ?? 0;
    if (last >= blockCount(point.geometry)) throw outside(point, `block ${last}`);
    const blocks = await this.#service.store.blocks(point, blockIndexes, (lent) =>
      encodeBlocks(point.id, lent),
    );
    const { agent, device } = point;
    this.#service.trail?.blocksRead({
      ...{ agent, device, point: pointLabel(point), address: this.#address, bytes: blocks.length },
    });
    return blocks;
  }

  async *verify(pointId?: string, device?: string): AsyncGenerator<VerifyEvent> {
    const scope =
      pointId === undefined
        ? this.#keyOf(device)
        : { ...this.#keyOf(undefined), pointId: (await this.#point(pointId)).id };
    this.#note({ what: 'verify', ...(pointId === undefined ? {} : { point: pointId }) });
    yield* this.#service.turns.whileVerifying(this.#agent, this.#service.store.verify(scope));
  }

  async *check(
    pointId: string,
    ranges?: readonly BlockRange[],
    options?: CheckOptions,
  ): AsyncGenerator<CheckEvent> {
    const point = await this.#point(pointId);
    const count = blockCount(point.geometry);
    let previousEnd = 0;
    for (const [start, end] of ranges ?? []) {
      if (start < previousEnd || end <= start) {
        throw new StillpointError('bad-message', {
          thing: 'check request',
          reason: 'its ranges of blocks do not ascend, or one is empty',
        });
      }
      if (end > count) throw outside(point, `block ${end - 1}`);
      previousEnd = end;
    }
    this.#note({ what: 'check', device: point.device, point: pointLabel(point) });
    const events = this.#service.store.check(point, ranges ?? [[0, count]], options);
    yield* this.#service.turns.whileVerifying(this.#agent, events);
  }

  async damage(device?: string): Promise<PointDamage[]> {
    const damaged = await this.#service.store.pointDamage(this.#keyOf(device));
    return damaged.map(({ point, blockCount, byteCount }) => ({ pointId: point.id, blockCount, byteCount }));
  }

  async *diff(fromId: string, toId: string): AsyncGenerator<DiffEvent> {
    const from = await this.#point(fromId);
    const to = await this.#point(toId);
    yield* this.#service.turns.whileDiffing(this.#agent, this.#service.store.diff(from, to));
  }

  async awaitOrder(request: AwaitOrderRequest, signal?: AbortSignal): Promise<AgentOrder | null> {
    for (const device of request.devices) checkDevice(device);
    for (const { device } of request.plans ?? []) checkDevice(device);
    return this.#service.orders.await(this.#agent, request, signal);
  }

  async rounds(): Promise<readonly PlannedRound[]> {
    return this.#service.orders.planned(this.#agent);
  }

  async reportOrder(orderId: string, report: OrderReport): Promise<OrderStanding> {
    // That there is a point is not the agent's to say.
    const point = report.state === 'done' ? await this.#point(report.pointId) : null;
    return this.#service.orders.report(this.#agent, orderId, report, point);
  }

  async groupStep(request: GroupStepRequest, signal?: AbortSignal): Promise<GroupCommand> {
    if (request.report.state === 'cut') for (const { device } of request.report.stalls) checkDevice(device);
    return this.#service.runs.step(this.#agent, request, signal);
  }

  async beginJournal(device: string, journalId: string, clockId: string): Promise<StoredJournal> {
    const key = { agent: this.#agent, device: checkDevice(device) };
    const { journal, isNew } = await this.#service.journals.begin(key, journalId, clockId);
    if (isNew) this.#noteJournal('journal-begin', journal);
    return journal;
  }

  async appendJournal(journalId: string, records: Uint8Array): Promise<JournalAppended> {
    checkLength(`records of journal ${journalId}`, records, JOURNAL_APPEND_BYTES_MAX);
    return this.#service.journals.append(this.#agent, journalId, records);
  }

  async endJournal(journalId: string, end: JournalEnd): Promise<void> {
    const ended = await this.#service.journals.end(this.#agent, journalId, end);
    if (ended !== null) this.#noteJournal('journal-end', ended, end.reason);
  }

  async journals(device?: string): Promise<StoredJournal[]> {
    return this.#service.journals.list(this.#keyOf(device));
  }

  async journalRecords(journalId: string, afterOrdinal: number, throughStamp: Stamp): Promise<Uint8Array> {
    const { journals, store, trail } = this.#service;
    const records = await journals.records(this.#seen, journalId, afterOrdinal, throughStamp);
    const journal = trail === null ? null : await store.journals.find(this.#seen, journalId);
    if (journal !== null && records.length > 0) {
      const { agent, device } = journal;
      const point = `journal ${journalId}`;
      trail?.blocksRead({ agent, device, point, address: this.#address, bytes: records.length });
    }
    return records;
  }

  #noteJournal(what: 'journal-begin' | 'journal-end', { device, journalId }: StoredJournal, why = ''): void {
    const detail = why === '' ? `journal ${journalId}` : `journal ${journalId}: ${why}`;
    this.#note({ what, device, detail });
  }

  #shown(point: Point): Point {
    return this.#seen === null ? point : seenByItsAgent(point);
  }

  #note(event: Pick<AuditEvent, 'what' | 'device' | 'session' | 'point' | 'detail'>): void {
    const from = { who: 'agent', agent: this.#agent, address: this.#address } as const;
    this.#service.trail?.note({ ...from, result: 'done', ...event });
  }

  async #point(pointId: string): Promise<Point> {
    const point = await this.#service.store.point(this.#seen, pointId);
    if (point !== null) return point;
    throw new StillpointError('point-unknown', {
      thing: `point ${pointId}`,
      reason: 'the receiver has no such point of this agent',
      remedy: 'List them with "stillpoint points".',
    });
  }
}

function checkDevice(name: string): string {
  return checkName('device name', name);
}

function checkLength(thing: string, { length }: Uint8Array, bytesMax: number): void {
  if (length <= bytesMax) return;
  throw new StillpointError('too-large', {
    thing,
    reason: `it has ${length} bytes, and ${bytesMax} is the limit`,
  });
}

function checkAscending(what: string, indexes: readonly number[]): void {
  if (indexes.every((index, i) => i === 0 || index > (indexes[i - 1] ?? -1))) return;
  throw new StillpointError('bad-message', { thing: what, reason: 'its block indexes do not ascend' });
}

function outside(point: Point, what: string): StillpointError {
  return new StillpointError('bad-message', {
    thing: what,
    reason: `it is outside of point ${pointLabel(point)}`,
  });
}
