/**
 * The commit of several captures at once: all become points, or none. Each is held by its own commit, with
 * all stored that its point needs, until all have come so far; then one decision makes all points
 * (src/store/points/decisions.ts).
 *
 * | state    | one has come so far       | one fails                     |
 * |----------|---------------------------|-------------------------------|
 * | waiting  | waits; the last → decided | → failed: all others fail too |
 * | decided  | -                         | -                             |
 * | failed   | fails                     | -                             |
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import type { GroupCommit } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import type { TogetherCommit } from '../port/store.js';
import type { StoreCapture } from './capture.js';
import { markHeld, type PreparedPoint } from './commit.js';
import type { StoreContext } from './context.js';

/** As Store.commitTogether. */
export async function commitTogether(
  context: StoreContext,
  commits: readonly (TogetherCommit & { readonly capture: StoreCapture })[],
  group: GroupCommit,
): Promise<PromiseSettledResult<Point>[]> {
  await context.decisions.settle();
  const made = commits.filter(({ capture }) => isMade(context, capture));
  if (made.length > 0 && made.length < commits.length) throw partlyMade(group, made);
  const meeting = new Meeting(context, commits.length, group);
  return Promise.allSettled(
    commits.map(({ capture, request }, place) =>
      capture
        .commitBy(request, (prepared) => meeting.arrive(place, prepared))
        .catch((error: unknown) => {
          meeting.fail(error);
          throw error;
        }),
    ),
  );
}

function isMade({ catalog }: StoreContext, { description }: StoreCapture): boolean {
  return catalog.byId(description.sessionId) !== undefined;
}

class Meeting {
  readonly #context: StoreContext;
  readonly #count: number;
  readonly #group: GroupCommit;
  readonly #arrived = new Map<number, PreparedPoint>();
  readonly #decided: Promise<ReadonlyMap<string, Point>>;
  #end: {
    readonly resolve: (points: ReadonlyMap<string, Point> | Promise<ReadonlyMap<string, Point>>) => void;
    readonly reject: (error: Error) => void;
  } | null = null;

  constructor(context: StoreContext, count: number, group: GroupCommit) {
    this.#context = context;
    this.#count = count;
    this.#group = group;
    this.#decided = new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
    });
    this.#decided.catch(() => undefined);
  }

  /** @param place among the members. @returns its point, when all are made */
  async arrive(place: number, prepared: PreparedPoint): Promise<Point> {
    this.#arrived.set(place, prepared);
    if (this.#arrived.size === this.#count) this.#end?.resolve(this.#decide());
    const points = await this.#decided;
    const point = points.get(prepared.point.id);
    if (point === undefined) throw new Error(`group ${this.#group.name} was decided without ${place}`);
    return point;
  }

  /** One won't come. After the decision it has no effect. */
  fail(error: unknown): void {
    this.#end?.reject(failedFor(this.#group, error instanceof Error ? error : new Error(String(error))));
  }

  async #decide(): Promise<ReadonlyMap<string, Point>> {
    const { id, name, missing, isOfReceiver = false } = this.#group;
    const prepared = [...this.#arrived].sort(([a], [b]) => a - b).map(([, each]) => each);
    const points = await this.#context.decisions.commit(
      { id, name, memberCount: this.#count, ...(missing === undefined ? {} : { missing }) },
      prepared.map(({ point }) => point),
      isOfReceiver,
    );
    for (const each of prepared) await markHeld(this.#context, each);
    return new Map(points.map((point) => [point.id, point]));
  }
}

function failedFor({ name }: GroupCommit, error: Error): StillpointError {
  const reason = isStillpointError(error) ? `${error.thing}: ${error.reason}` : error.message;
  return new StillpointError('group-failed', {
    thing: `group ${name}`,
    reason: `another member failed, so none became a point: ${reason}`,
    cause: error,
  });
}

function partlyMade(group: GroupCommit, made: readonly TogetherCommit[]): StillpointError {
  return new StillpointError('group-failed', {
    thing: `group ${group.name}`,
    reason: `session ${made[0]?.capture.description.sessionId} is a point already, of an earlier try`,
    remedy: 'Begin other sessions.',
  });
}
