/**
 * The receiver's sessions over one store, for all agents; AgentHandlers is the side that one agent sees.
 *
 * At most one session is open per device (and agent). Begins of one device run one after the other;
 * everything else is ordered by its session's capture. A session is in the table from its begin, or from the
 * start of the receiver, until its commit or abort has ended; a committed one is known by its point.
 */
import { StillpointError } from '../../domain/base/errors.js';
import {
  BEGINS_PER_MINUTE_MAX,
  RECEIVER_PATCH_BYTES_MAX,
  RECEIVER_WAITING_MAX,
  SESSIONS_PER_AGENT_MAX,
} from '../../domain/base/limits.js';
import { checkGroupName, checkNamesApart, checkOwnGroupName } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import type {
  BeginAnswer,
  BeginRequest,
  CommitRequest,
  SessionStatus,
} from '../../domain/session/messages.js';
import { guardMessage } from '../../domain/session/session.js';
import { ByteBudget } from '../../protocol/transport/byte-budget.js';
import type { Capture, DeviceKey, Store } from '../../store/port/store.js';
import type { QuotaUse } from '../access/quota.js';
import type { Quotas } from '../access/quotas.js';
import { Sparing } from '../audit/sparing.js';
import type { Trail } from '../audit/trail.js';
import { GroupRuns } from '../groups/runs.js';
import { ReceiverJournals } from '../journals/journals.js';
import { OrderBook } from '../orders/orders.js';
import { Admission } from './admission.js';
import { AgentTurns, busy } from './agent-turns.js';
import { BaseBlocks } from './base-blocks.js';
import { checkCommitted } from './check-commit.js';
import { Collecting } from './collecting.js';
import { GroupCommits } from './group-commits.js';
import { OpenSession, type SessionEnd } from './open-session.js';
import { planBegin } from './plan-begin.js';

export interface ServiceOptions {
  readonly trail?: Trail | null;
  readonly quotas?: Quotas | null;
  /** Beside the trail. */
  readonly onEnd?: (key: DeviceKey, end: SessionEnd) => void;
  readonly onFreed?: (bytes: number) => void;
}
/** An agent that is still at work says something within this time. */
const IDLE_SESSION_MS = 15 * 60_000;

export class ReceiverService {
  readonly store: Store;
  /** Null: nothing is recorded. */
  readonly trail: Trail | null;
  readonly admission: Admission;
  /** Agents whose name is being changed, or that are being removed. */
  readonly #closed = new Set<string>();
  /** Names of a change that failed half-way: they are not served while they are here. */
  readonly held = new Set<string>();
  /** What agents are asked to back up; empty where nobody can ask. */
  readonly orders = new OrderBook();
  readonly collecting: Collecting;
  readonly turns = new AgentTurns();
  readonly #sessions = new Map<string, OpenSession>();
  /** Ids of sessions that are being made: nobody else may take them meanwhile. */
  readonly #reserved = new Map<string, DeviceKey>();
  /** By device: the last begin, which the next one waits for. */
  readonly #begins = new Map<string, Promise<unknown>>();
  /** Each costs a number of syncs, whatever comes of it. */
  readonly #begun = new Sparing({
    ...{ windowMs: 60_000, perKeyMax: BEGINS_PER_MINUTE_MAX, totalMax: Number.POSITIVE_INFINITY },
    nowMs: () => performance.now(),
  });
  /** Of groups over several hosts. */
  readonly runs: GroupRuns;
  readonly journals: ReceiverJournals;
  readonly #groups: GroupCommits;
  readonly #onEnd: ServiceOptions['onEnd'];
  readonly #patchMemory = new ByteBudget(RECEIVER_PATCH_BYTES_MAX, RECEIVER_WAITING_MAX);

  private constructor(store: Store, { trail = null, quotas = null, onEnd, onFreed }: ServiceOptions) {
    this.#onEnd = onEnd;
    this.store = store;
    this.admission = new Admission(store, quotas, () => this.#openDevices(null));
    this.journals = new ReceiverJournals({
      store,
      checkOpen: (agent) => this.checkOpen(agent),
      admitDevice: (key) => this.admission.journal(key),
      admitBytes: (agent, bytes) => this.admission.bytes(agent, bytes),
    });
    this.trail = trail;
    const isOpen = (agent: string, id: string) => this.find(agent, id)?.isOpen === true;
    this.runs = new GroupRuns({
      isOpen: (agent, id, device) =>
        isOpen(agent, id) && this.find(agent, id)?.capture.description.device === device,
    });
    this.#groups = new GroupCommits({ store, isOpen, runs: this.runs });
    this.collecting = new Collecting({
      ...{ store, hasSessions: () => this.#sessions.size > 0 },
      onFreed: (bytes) => {
        trail?.log.note({ who: 'receiver', what: 'collect', result: 'done', bytes });
        onFreed?.(bytes);
      },
    });
  }

  /**
   * Takes up the sessions that were open when the receiver last stopped. The store
   * stays the caller's to close.
   */
  static async open(store: Store, options: ServiceOptions = {}): Promise<ReceiverService> {
    const service = new ReceiverService(store, options);
    for (const capture of store.captures()) {
      const { agent, basePointId } = capture.description;
      const base = basePointId === null ? null : await store.point(agent, basePointId);
      const isOrphan = basePointId !== null && base === null;
      if (isOrphan || service.#openSession(capture.description) !== null) await capture.abort();
      else service.#add(capture, base);
    }
    return service;
  }

  begin(agent: string, request: BeginRequest): Promise<BeginAnswer> {
    if (!this.#begun.admit(agent)) return Promise.reject(busy(agent, TOO_MANY_BEGINS, LATER));
    const key = keyOf({ agent, device: request.device });
    const result = (this.#begins.get(key) ?? Promise.resolve()).then(() => this.#begin(agent, request));
    const settled = result
      .catch(() => undefined)
      .finally(() => {
        if (this.#begins.get(key) === settled) this.#begins.delete(key);
      });
    this.#begins.set(key, settled);
    return result;
  }

  async #begin(agent: string, request: BeginRequest): Promise<BeginAnswer> {
    const key = { agent, device: request.device };
    for (;;) {
      const open = this.#openSession(key);
      if (open?.state === 'aborted') {
        await open.abort();
        continue;
      }
      open?.guard('begin');
      const last = (await this.store.points(key)).at(-1) ?? null;
      const base = await this.store.baseFor(key);
      // A device that has points has its name.
      if (last === null) checkNamesApart(await this.store.points({ agent }), { device: request.device });
      const isTaken = await this.#isTaken(agent, request.sessionId);
      // A commit or abort may have ended meanwhile, and what was read is of the time before it.
      if (this.#openSession(key) !== open || (open?.state ?? 'open') !== 'open') continue;
      if (isTaken && open?.id !== request.sessionId) guardMessage('committed', 'begin', request.sessionId);
      const plan = planBegin(request, {
        last,
        base,
        open: open === null ? null : { description: open.capture.description, base: open.base },
      });
      if (open !== null && plan.action === 'resume') return beginAnswer(open, true, await open.resume());
      return this.#replace(agent, request, plan.base, open);
    }
  }

  async #replace(
    agent: string,
    request: BeginRequest,
    base: Point | null,
    superseded: OpenSession | null,
  ): Promise<BeginAnswer> {
    const { device, sessionId, geometry, identity } = request;
    this.#reserved.set(sessionId, { agent, device });
    try {
      if (superseded === null) this.#checkRoom(agent, sessionId);
      const others = this.#openDevices(sessionId);
      await this.admission.session({ agent, device }, others, superseded === null ? 1 : 0);
      this.checkOpen(agent);
      await superseded?.abort('session-superseded');
      const basePointId = base?.id ?? null;
      const capture = await this.store.createCapture({
        agent,
        device,
        sessionId,
        geometry,
        identity,
        basePointId,
      });
      return beginAnswer(this.#add(capture, base), false, { durableSequence: 0, durableBlockEnd: 0 });
    } finally {
      this.#reserved.delete(sessionId);
    }
  }

  /** A session's id is its point's id in the end: it is used once. */
  async #isTaken(agent: string, sessionId: string): Promise<boolean> {
    const point = await this.store.point(agent, sessionId);
    return point !== null || this.#sessions.has(sessionId) || this.#reserved.has(sessionId);
  }

  /** Devices of open sessions, and of those that were being made when this one came; null: of all. */
  #openDevices(before: string | null): DeviceKey[] {
    const made = [...this.#sessions.values()].map(({ capture }) => capture.description);
    const end = before === null ? -1 : [...this.#reserved.keys()].indexOf(before);
    return [...made, ...[...this.#reserved.values()].slice(0, end < 0 ? undefined : end)];
  }

  #checkRoom(agent: string, sessionId: string): void {
    const count = this.#openDevices(sessionId).filter((open) => open.agent === agent).length;
    if (count < SESSIONS_PER_AGENT_MAX) return;
    throw busy(agent, `it has ${count} sessions open, which is the limit`, 'Commit or abort one of them.');
  }

  /** What an agent has taken of the receiver (src/receiver/access/quotas.ts). */
  use(agent: string): Promise<QuotaUse> {
    return this.admission.use(agent);
  }

  /**
   * Ends the agent's open sessions, whose blocks stay held, and lets none begin while `work` runs.
   * @throws StillpointError `session-busy` while one of them is being committed
   */
  async withoutSessions<T>(agents: readonly string[], work: () => Promise<T>): Promise<T> {
    for (const agent of agents) this.#closed.add(agent);
    try {
      const keys = [...this.#begins.keys()].filter((key) => agents.includes(key.split('/')[0] ?? ''));
      await Promise.all(keys.map((key) => this.#begins.get(key)));
      await this.journals.settled(agents);
      for (const session of [...this.#sessions.values()]) {
        if (agents.includes(session.capture.description.agent)) await session.abort('session-cut');
      }
      return await work();
    } finally {
      for (const agent of agents) this.#closed.delete(agent);
    }
  }

  /** @throws StillpointError `busy` while it is being renamed or removed */
  checkOpen(agent: string): void {
    if (!this.#closed.has(agent) && !this.held.has(agent)) return;
    throw busy(agent, 'the receiver is renaming or removing it', LATER);
  }

  /** The agent's open session of this id; another agent's is as unknown as none. */
  find(agent: string, sessionId: string): OpenSession | null {
    const session = this.#sessions.get(sessionId);
    return session?.capture.description.agent === agent ? session : null;
  }

  async status(agent: string, sessionId: string): Promise<SessionStatus> {
    const session = this.find(agent, sessionId);
    if (session !== null && session.state !== 'aborted') {
      return { sessionId, state: 'open', durableSequence: session.capture.durableSequence, point: null };
    }
    const point = await this.store.point(agent, sessionId);
    return { sessionId, state: point === null ? 'unknown' : 'committed', durableSequence: 0, point };
  }

  async commit(agent: string, sessionId: string, request: CommitRequest): Promise<Point> {
    const session = this.find(agent, sessionId);
    const { group } = request;
    if (group !== undefined) {
      const points = await this.store.points({ agent });
      checkNamesApart(points, { group: checkGroupName(group.name) });
      if (group.isOfReceiver !== true) checkOwnGroupName(points, group.name);
    }
    if (session !== null) return session.commit(request);
    const point = await this.store.point(agent, sessionId);
    if (point !== null) return checkCommitted(request, point);
    guardMessage('aborted', 'commit', sessionId);
    throw new Error('commit is refused where there is no session');
  }

  /** A session that is not there is gone already. */
  async abort(agent: string, sessionId: string): Promise<void> {
    const session = this.find(agent, sessionId);
    if (session !== null) return session.abort();
    if ((await this.store.point(agent, sessionId)) !== null) guardMessage('committed', 'abort', sessionId);
  }

  /** Why a message for a session that is not open can't be taken. */
  async refuse(agent: string, sessionId: string, message: 'have' | 'pieces' | 'batch'): Promise<never> {
    const isCommitted = (await this.store.point(agent, sessionId)) !== null;
    guardMessage(isCommitted ? 'committed' : 'aborted', message, sessionId);
    throw new Error(`${message} is refused in every closed state`);
  }

  /**
   * Ends the sessions that nobody went on with for as long as partial sets are kept, then removes what such
   * left and nobody needs. Does not reject: what can't be done now is done at the next call.
   */
  async collect(): Promise<void> {
    for (const { description } of this.store.expiredCaptures()) {
      // One that is being committed, or gone on with at this moment, stays.
      await this.find(description.agent, description.sessionId)
        ?.abort('session-expired')
        .catch(() => undefined);
    }
    await this.collecting.tick().catch(() => undefined);
  }

  /**
   * Ends the session of a device that is to be forgotten. What had arrived stays held for a time.
   * @throws StillpointError `session-busy` if its agent was heard a moment ago
   */
  async endIdle(key: DeviceKey, now: Date): Promise<void> {
    const session = this.#openSession(key);
    if (session === null) return;
    const sets = await this.store.partialSets({ agent: key.agent, device: key.device });
    const lastActivityAt = sets.find(({ sessionId }) => sessionId === session.id)?.lastActivityAt ?? '';
    if (now.getTime() - Date.parse(lastActivityAt) < IDLE_SESSION_MS) {
      throw new StillpointError('session-busy', {
        thing: `device ${key.agent}/${key.device}`,
        reason: `a backup of it is going on, or was a moment ago (session ${session.id})`,
        remedy: 'Stop that backup, and try again a quarter of an hour later.',
      });
    }
    await session.abort();
  }

  /** Waits for begins that run; the store waits for all else when it closes. No message may come any more. */
  async close(): Promise<void> {
    this.orders.close();
    this.#groups.close();
    this.runs.close();
    await Promise.all(this.#begins.values());
  }

  #openSession(key: DeviceKey): OpenSession | null {
    for (const session of this.#sessions.values()) {
      const { agent, device } = session.capture.description;
      if (agent === key.agent && device === key.device) return session;
    }
    return null;
  }

  #add(capture: Capture, base: Point | null): OpenSession {
    const { agent } = capture.description;
    const session = new OpenSession(capture, this.#baseBlocks(capture, base), this.#groups, (ended, end) => {
      this.#groups.ended(agent, ended.id);
      if (this.#sessions.get(ended.id) === ended) this.#sessions.delete(ended.id);
      this.trail?.session(capture.description, end);
      this.#onEnd?.(capture.description, end);
    });
    this.#sessions.set(session.id, session);
    return session;
  }

  #baseBlocks({ description }: Capture, base: Point | null): BaseBlocks {
    return new BaseBlocks({ store: this.store, base, description, memory: this.#patchMemory });
  }
}

const LATER = 'The message is sent again later.';
const TOO_MANY_BEGINS = `it has begun ${BEGINS_PER_MINUTE_MAX} sessions within a minute, which is the limit`;

function beginAnswer(
  session: OpenSession,
  resumed: boolean,
  durable: Pick<BeginAnswer, 'durableSequence' | 'durableBlockEnd'>,
): BeginAnswer {
  return { sessionId: session.id, base: session.base, resumed, ...durable };
}

/** Names hold no slash. */
function keyOf({ agent, device }: DeviceKey): string {
  return `${agent}/${device}`;
}
