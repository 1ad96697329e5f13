/**
 * Where the commits of a group meet: all its sessions become points, or none (Store.commitTogether).
 *
 * | state     | a commit comes             | a session ends, or time is over | decided        |
 * |-----------|----------------------------|---------------------------------|----------------|
 * | -         | → gathering                |                                 |                |
 * | gathering | waits; the last → deciding | all fail, `group-failed` → -    |                |
 * | deciding  | -                          | no effect                       | all answered → - |
 *
 * In memory only. After a restart agents send their commits again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import type { GroupCommit } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import type { Capture, Store } from '../../store/port/store.js';
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
  readonly gatheringMs?: number;
  readonly answerMs?: number;
}

interface Waiting extends Committing {
  readonly request: CommitRequest;
  readonly resolve: (point: Point) => void;
  readonly reject: (error: unknown) => void;
}

interface Gathering {
  readonly agent: string;
  readonly group: GroupCommit;
  /** By session, in the order in which they come. */
  readonly waiting: Map<string, Waiting>;
  readonly timer: NodeJS.Timeout;
}

export class GroupCommits {
  readonly #options: GroupCommitsOptions;
  /** By agent and group. */
  readonly #gatherings = new Map<string, Gathering>();

  constructor(options: GroupCommitsOptions) {
    this.#options = options;
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
      if (gathering.waiting.size === group.sessionIds.length) this.#decide(gathering);
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
    if (!this.#gatherings.has(`${agent}/${group.id}`)) return result;
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
      if (gathering.agent === agent && gathering.group.sessionIds.includes(sessionId))
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
    const key = `${agent}/${group.id}`;
    const known = this.#gatherings.get(key);
    const [first] = known?.waiting.values() ?? [];
    if (known !== undefined && first !== undefined) {
      if (isSameGroupPoint(first.request, request)) return known;
      throw refuse('another session of its group names another group point, instant or kind');
    }
    const absent = group.sessionIds.find((id) => !this.#options.isOpen(agent, id));
    if (absent !== undefined) throw failed(group, `session ${absent} of it is not open`);
    const made: Gathering = {
      ...{ agent, group, waiting: new Map() },
      timer: setTimeout(
        () => this.#fail(made, 'the commits of its other sessions did not come in time'),
        this.#options.gatheringMs ?? GATHERING_MS,
      ),
    };
    this.#gatherings.set(key, made);
    return made;
  }

  #end({ agent, group, timer }: Gathering): void {
    clearTimeout(timer);
    this.#gatherings.delete(`${agent}/${group.id}`);
  }

  #fail(gathering: Gathering, reason: string, permanent = true): void {
    this.#end(gathering);
    for (const { reject } of gathering.waiting.values()) reject(failed(gathering.group, reason, permanent));
  }

  #decide(gathering: Gathering): void {
    this.#end(gathering);
    const waiting = [...gathering.waiting.values()];
    this.#options.store.commitTogether(waiting, gathering.group).then(
      (results) => {
        for (const [place, { resolve, reject }] of waiting.entries()) {
          const result = results[place];
          if (result?.status === 'fulfilled') resolve(result.value);
          else reject(result?.reason);
        }
      },
      (error) => {
        for (const { reject } of waiting) reject(error);
      },
    );
  }
}

function isSameGroupPoint(a: CommitRequest, b: CommitRequest): boolean {
  const named = ({ group, instant, kind }: CommitRequest) => JSON.stringify([instant, kind, namedBy(group)]);
  return named(a) === named(b);
}

function namedBy(group: GroupCommit | undefined): unknown {
  return [group?.id, group?.name, group?.sessionIds, group?.missing ?? []];
}

function failed({ name }: GroupCommit, reason: string, permanent = true): StillpointError {
  return new StillpointError('group-failed', {
    thing: `group ${name}`,
    reason: `${reason}, so none of its sessions became a point`,
    remedy: 'Back the group up again: blocks that arrived are not sent again.',
    permanent,
  });
}
