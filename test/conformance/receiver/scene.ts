/**
 * What every refusal is tried on: a device with a history, and the check that nothing of it has changed. They
 * share a receiver, since a refusal changes nothing of it.
 */
import type { ExecutionContext } from 'ava';
import type { ErrorCode } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { BeginRequest } from '../../../src/domain/session/messages.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { batchOf, rootOf } from '../../helpers/bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY } from '../../helpers/bytes/requests.js';
import { inTurns, type Tests } from '../../helpers/in-turns.js';
import {
  type Blocks,
  backUp,
  blocksOf,
  checkContent,
  eventsOf,
  type MakeWorld,
  newSessionId,
  type ReceiverWorld,
} from '../receiver.js';

/** One committed point and one open session with a durable batch. */
export interface Scene {
  readonly port: ReceiverPort;
  readonly stranger: ReceiverPort;
  /** Of both; no other scene has one of this name. */
  readonly device: string;
  readonly point: Point;
  readonly state: Blocks;
  readonly session: BeginRequest;
  readonly sessionId: string;
}

export const DURABLE = blocksOf([2], 7);

/** Each begins several sessions, and a receiver bounds how many an agent may begin within a minute. */
const SCENES_PER_AGENT = 40;

/**
 * Declares tests that have a scene; one after the other, since a receiver verifies once at a time for an
 * agent.
 */
export function withScenes(
  test: Tests,
  make: MakeWorld,
): (title: string, body: (t: ExecutionContext, scene: Scene) => Promise<void>) => void {
  const ends: (() => unknown)[] = [];
  test.after.always(async () => {
    for (const end of ends.reverse()) await end();
  });
  let world: Promise<ReceiverWorld> | null = null;
  let sceneCount = 0;
  const oneByOne = inTurns(test, 1);
  return (title, body) =>
    oneByOne(title, async (t) => {
      world ??= make({ teardown: (end) => void ends.push(end) });
      sceneCount += 1;
      const group = Math.ceil(sceneCount / SCENES_PER_AGENT);
      await body(t, await makeScene(await world, group, `disk-${sceneCount}`));
    });
}

async function makeScene(world: ReceiverWorld, group: number, device: string): Promise<Scene> {
  const [port, stranger] = await Promise.all([
    world.portFor(`host-${group}`),
    world.portFor(`stranger-${group}`),
  ]);
  const state: Blocks = new Map();
  const point = await backUp(port, state, blocksOf([0, 1], 1), device);
  await backUp(stranger, new Map(), blocksOf([0], 1, 99), device);
  const sessionId = newSessionId();
  const session = beginRequest({ device, sessionId });
  await port.begin(session);
  await port.batch(sessionId, 1, batchOf(sessionId, 1, DURABLE));
  return { port, stranger, device, point, state, session, sessionId };
}

/** The point is there and whole, the session as it was, and it can still be committed. */
export async function checkUnchanged(t: ExecutionContext, scene: Scene): Promise<void> {
  const { port, device, point, state, sessionId } = scene;
  t.deepEqual(await port.points(device), [point]);
  await checkContent(t, port, point, state);
  t.deepEqual(await port.status(sessionId), { sessionId, state: 'open', durableSequence: 1, point: null });
  const after = new Map([...state, ...DURABLE]);
  const next = await port.commit(sessionId, commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, after) }));
  t.is(next.sequence, 2);
  await checkContent(t, port, next, after);
  for (const { id } of [point, next])
    t.like((await eventsOf(port.verify(id))).at(-1), { pointCount: 1, findingCount: 0 });
}

export type BadCall = (scene: Scene) => Promise<unknown>;
export type BadCase = readonly [what: string, code: ErrorCode, call: BadCall];
