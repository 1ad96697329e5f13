/**
 * What every refusal is tried on: a receiver with a history, and the check that nothing of it has changed.
 */
import type { ExecutionContext } from 'ava';
import type { ErrorCode } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { BeginRequest } from '../../../src/domain/session/messages.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { batchOf, rootOf } from '../../helpers/bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY } from '../../helpers/bytes/requests.js';
import {
  type Blocks,
  backUp,
  blocksOf,
  checkContent,
  eventsOf,
  type MakeWorld,
  newSessionId,
} from '../receiver.js';

/** One committed point and one open session with a durable batch. */
export interface Scene {
  readonly port: ReceiverPort;
  readonly stranger: ReceiverPort;
  readonly point: Point;
  readonly state: Blocks;
  readonly session: BeginRequest;
  readonly sessionId: string;
}

export const DURABLE = blocksOf([2], 7);

export async function setUp(t: ExecutionContext, make: MakeWorld): Promise<Scene> {
  const world = await make(t);
  const [port, stranger] = [await world.portFor('host'), await world.portFor('stranger')];
  const state: Blocks = new Map();
  const point = await backUp(port, state, blocksOf([0, 1], 1));
  await backUp(stranger, new Map(), blocksOf([0], 1, 99));
  const sessionId = newSessionId();
  const session = beginRequest({ sessionId });
  await port.begin(session);
  await port.batch(sessionId, 1, batchOf(sessionId, 1, DURABLE));
  return { port, stranger, point, state, session, sessionId };
}

/** The point is there and whole, the session as it was, and it can still be committed. */
export async function checkUnchanged(t: ExecutionContext, scene: Scene): Promise<void> {
  const { port, point, state, sessionId } = scene;
  t.deepEqual(await port.points(), [point]);
  await checkContent(t, port, point, state);
  t.deepEqual(await port.status(sessionId), { sessionId, state: 'open', durableSequence: 1, point: null });
  const after = new Map([...state, ...DURABLE]);
  const next = await port.commit(sessionId, commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, after) }));
  t.is(next.sequence, 2);
  await checkContent(t, port, next, after);
  t.like((await eventsOf(port.verify())).at(-1), { pointCount: 2, findingCount: 0 });
}

export type BadCall = (scene: Scene) => Promise<unknown>;
export type BadCase = readonly [what: string, code: ErrorCode, call: BadCall];
