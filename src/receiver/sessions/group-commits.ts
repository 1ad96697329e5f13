/**
 * Where the commits of a group meet: all its sessions become points, or none (Store.commitTogether). They are
 * of one agent, which lists them; or of the hosts of a run (src/receiver/groups/), which knows them.
 *
 * | state     | a commit comes             | a session or the run ends, or   | decided        |
 * |           |                            | time is over                    |                |
 * |-----------|----------------------------|---------------------------------|----------------|
 * | -         | → gathering                |                                 |                |
 * | gathering | waits; the last → deciding | all fail, `group-failed` → -    |                |
 * | deciding  | -                          | no effect                       | all answered → - |
 *
 * In memory only. After a restart agents send their commits again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import type { OrderFailure } from '../../domain/order/order.js';
import type { GroupCommit } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import { toStillpointError } from '../../protocol/messages/error-body.js';
import type { Capture, Store } from '../../store/port/store.js';
import type { ExpectedCommits, GroupRuns } from '../groups/runs.js';
import { busy } from './agent-turns.js';

/** As long as an agent goes on trying to reach the receiver. */
const GATHERING_MS = 10 * 60_000;

/**
 * A commit is answered by then, if others have not come: they may need its connection. It stays a part of the
 * group, and finds how it ended when it is sent again.
 */
const ANSWER_MS = 5_000;

/** A session that is being committed. */
interface Committing {
  readonly capture: Capture;
}

export interface GroupCommitsOptions {
  readonly store: Pick<Store, 'commitTogether'>;
  /** An open session of the agent. */
  readonly isOpen: (agent: string, sessionId: string) => boolean;
  readonly runs: Pick<GroupRuns, 'expected' | 'deciding' | 'committed' | 'fail' | 'onEnd'>;
  readonly gatheringMs?: number;
  readonly answerMs?: number;
}

interface Waiting extends Committing {
  readonly request: CommitRequest;
  readonly resolve: (point: Point) => void;
  readonly reject: (error: unknown) => void;
}

interface Gathering {
  readonly key: string;
  readonly group: GroupCommit;
  /** Of all, in the order of the members. */
  readonly sessions: readonly { readonly agent: string; readonly sessionId: string }[];
  /** By session, in the order in which they come. */
  readonly waiting: Map<string, Waiting>;
  readonly timer: NodeJS.Timeout;
}

export class GroupCommits {
  readonly #options: GroupCommitsOptions;
  /** By agent and group; those of runs by their id. */
  readonly #gatherings = new Map<string, Gathering>();

  constructor(options: GroupCommitsOptions) {
    this.#options = options;
    // A host that is gone sends no commit: those that have come would wait for it.
    options.runs.onEnd((runId) => {
      const gathering = this.#gatherings.get(runId);
      if (gathering !== undefined) this.#fail(gathering, 'its run has ended on another host, or was stopped');
    });
  }

  /**
   * @returns its point, when all have come and are made
   * @throws StillpointError `group-failed`, `bad-message` if the commits do not name the same group point;
   * as Store.commitTogether. None has become a point then, unless an error says that nobody knows
   */
  async join({ capture }: Committing, request: CommitRequest, group: GroupCommit): Promise<Point> {
    const { agent, sessionId } = capture.description;
    const gathering = this.#gathering(agent, sessionId, request, group);
    return new Promise<Point>((resolve, reject) => {
      gathering.waiting.set(sessionId, { capture, request, resolve, reject });
      if (gathering.waiting.size === gathering.sessions.length) this.#decide(gathering);
    });
  }

  /**
   * What its agent is answered. @param result of `join`
   * @throws StillpointError `busy`, not permanent: others are still to come
   */
  async answer({ capture }: Committing, group: GroupCommit, result: Promise<Point>): Promise<Point> {
    const { agent } = capture.description;
    result.catch(() => undefined);
    const over = new AbortController();
    const late = sleep(this.#options.answerMs ?? ANSWER_MS, 'late' as const, { signal: over.signal });
    const first = await Promise.race([result, late.catch(() => 'late' as const)]).finally(() => over.abort());
    if (first !== 'late') return first;
    if (!this.#gatherings.has(this.#keyOf(agent, group))) return result;
    const { name, sessionIds } = group;
    const { length } = sessionIds;
    throw busy(
      agent,
      `the commits of all ${length} sessions of group ${name} are waited for`,
      'Send it again.',
    );
  }

  /** The session won't come any more. */
  ended(agent: string, sessionId: string): void {
    for (const gathering of this.#gatherings.values()) {
      if (gathering.sessions.some((each) => each.agent === agent && each.sessionId === sessionId))
        this.#fail(gathering, `session ${sessionId} of it has ended`);
    }
  }

  close(): void {
    for (const gathering of this.#gatherings.values()) this.#fail(gathering, 'the receiver stops', false);
  }

  #gathering(agent: string, sessionId: string, request: CommitRequest, group: GroupCommit): Gathering {
    const refuse = (reason: string) =>
      new StillpointError('bad-message', { thing: `commit of session ${sessionId}`, reason });
    if (new Set(group.sessionIds).size < group.sessionIds.length) throw refuse('its group names one twice');
    if (!group.sessionIds.includes(sessionId)) throw refuse('its group does not name it');
    const run = this.#options.runs.expected(agent, group.id);
    const all = run === null ? ownGroup(agent, group) : runGroup(run, group, request, refuse);
    const key = this.#keyOf(agent, group);
    const known = this.#gatherings.get(key);
    const [first] = known?.waiting.values() ?? [];
    if (known !== undefined && first !== undefined) {
      if (isSameGroupPoint(first.request, request)) return known;
      throw refuse('another session of its group names another group point, instant or kind');
    }
    const absent = all.sessions.find((each) => !this.#options.isOpen(each.agent, each.sessionId));
    if (absent !== undefined) throw failed(group, `session ${absent.sessionId} of it is not open`);
    const made: Gathering = {
      ...{ key, ...all, waiting: new Map() },
      timer: setTimeout(
        () => this.#fail(made, 'the commits of its other sessions did not come in time'),
        this.#options.gatheringMs ?? GATHERING_MS,
      ),
    };
    this.#gatherings.set(key, made);
    return made;
  }

  /** Ids of runs are the receiver's own: an agent that is not a part of one can't name it. */
  #keyOf(agent: string, { id }: GroupCommit): string {
    return this.#options.runs.expected(agent, id) === null ? `${agent}/${id}` : id;
  }

  #end({ key, timer }: Gathering): void {
    clearTimeout(timer);
    this.#gatherings.delete(key);
  }

  #fail(gathering: Gathering, reason: string, permanent = true): void {
    this.#end(gathering);
    const error = failed(gathering.group, reason, permanent);
    if (gathering.group.isOfReceiver === true) this.#options.runs.fail(gathering.group.id, asFailure(error));
    for (const { reject } of gathering.waiting.values()) reject(error);
  }

  #decide(gathering: Gathering): void {
    const { isOfReceiver = false, id } = gathering.group;
    if (isOfReceiver && !this.#options.runs.deciding(id)) {
      this.#fail(gathering, 'its run is over');
      return;
    }
    this.#end(gathering);
    const waiting = [...gathering.waiting.values()];
    const { store, runs } = this.#options;
    const { group } = gathering;
    const end = (error: unknown) => {
      if (!isOfReceiver) return;
      if (error === undefined) runs.committed(id);
      else runs.fail(id, asFailure(error));
    };
    store.commitTogether(waiting, group).then(
      (results) => {
        const fault = results.find((result) => result.status === 'rejected');
        end(fault?.reason);
        for (const [place, { resolve, reject }] of waiting.entries()) {
          const result = results[place];
          if (result?.status === 'fulfilled') resolve(result.value);
          else reject(result?.reason);
        }
      },
      (error) => {
        end(error);
        for (const { reject } of waiting) reject(error);
      },
    );
  }
}

type Together = Pick<Gathering, 'group' | 'sessions'>;

/** @throws StillpointError `group-failed` */
function ownGroup(agent: string, group: GroupCommit): Together {
  if (group.isOfReceiver === true) throw failed(group, 'its run is over, or the receiver was restarted');
  return { group, sessions: group.sessionIds.map((sessionId) => ({ agent, sessionId })) };
}

/** What the run knows counts. @throws StillpointError `group-failed`, `bad-message` */
function runGroup(
  { name, commit }: ExpectedCommits,
  group: GroupCommit,
  { instant, kind }: CommitRequest,
  refuse: (reason: string) => StillpointError,
): Together {
  if (commit === null) throw failed(group, 'its run is over, or not all has been sent');
  const { sessions, missing } = commit;
  const sessionIds = sessions.map(({ sessionId }) => sessionId);
  const isAsTold =
    name === group.name &&
    instant === commit.instant &&
    kind === commit.kind &&
    isSame(sessionIds, group.sessionIds);
  if (!isAsTold) throw refuse('its name, instant, kind or sessions are not those that its agent was told');
  const { id } = group;
  return {
    group: { id, name, sessionIds, isOfReceiver: true, ...(missing.length === 0 ? {} : { missing }) },
    sessions,
  };
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, at) => each === b[at]);
}

function isSameGroupPoint(a: CommitRequest, b: CommitRequest): boolean {
  const named = ({ group, instant, kind }: CommitRequest) => JSON.stringify([instant, kind, namedBy(group)]);
  return named(a) === named(b);
}

function namedBy(group: GroupCommit | undefined): unknown {
  return [group?.id, group?.name, group?.sessionIds, group?.missing ?? []];
}

function asFailure(error: unknown): OrderFailure {
  const { code, thing, reason, remedy, permanent } = toStillpointError(error);
  return { code, thing, reason, permanent, ...(remedy === undefined ? {} : { remedy }) };
}

function failed({ name }: GroupCommit, reason: string, permanent = true): StillpointError {
  return new StillpointError('group-failed', {
    thing: `group ${name}`,
    reason: `${reason}, so none of its sessions became a point`,
    remedy: 'Back the group up again: blocks that arrived are not sent again.',
    permanent,
  });
}
