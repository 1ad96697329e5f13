/**
 * Whatever arrives gets a typed error, and the store stays as it was: tables of bad inputs,
 * run on each ReceiverPort.
 */
import { HAVE_DIGESTS_MAX } from '../../../src/domain/base/limits.js';
import { encodeQuestion } from '../../../src/protocol/codecs/compare-codec.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { batchOf, rootOf } from '../../helpers/bytes/batches.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { beginRequest, commitRequest, GEOMETRY } from '../../helpers/bytes/requests.js';
import type { Tests } from '../../helpers/in-turns.js';
import { BAD_BATCHES } from '../bad-batches.js';
import { BAD_MESSAGES } from '../bad-messages.js';
import { block, blocksOf, checkContent, eventsOf, type MakeWorld, newSessionId } from '../receiver.js';
import { checkUnchanged, DURABLE, withScenes } from './scene.js';

/** Calls of a stranger with true ids; each must fare like one with an id that nobody has. */
const STRANGERS: readonly [what: string, call: (stranger: ReceiverPort, id: string) => Promise<unknown>][] = [
  ['status', async (stranger, id) => (await stranger.status(id)).state],
  ['have', (stranger, id) => stranger.have(id, Buffer.alloc(32))],
  ['pieces', (stranger, id) => stranger.pieces(id, [0])],
  ['batch', (stranger, id) => stranger.batch(id, 2, batchOf(id, 2, blocksOf([3], 1)))],
  [
    'commit',
    (stranger, id) => stranger.commit(id, commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, DURABLE) })),
  ],
  ['abort', (stranger, id) => stranger.abort(id)],
  ['nodes', (stranger, id) => stranger.nodes(id, [{ level: 1, index: 0 }])],
  [
    'comparison',
    (stranger, id) =>
      stranger.compareNodes(encodeQuestion(id, [{ level: 1, index: 0, content: Buffer.alloc(0) }])),
  ],
  ['blocks', (stranger, id) => stranger.blocks(id, [0])],
  ['verify', (stranger, id) => eventsOf(stranger.verify(id))],
  ['check', (stranger, id) => eventsOf(stranger.check(id, [[0, 1]]))],
  ['diff from', async (stranger, id) => eventsOf(stranger.diff(id, (await stranger.points())[0]?.id ?? ''))],
  ['diff to', async (stranger, id) => eventsOf(stranger.diff((await stranger.points())[0]?.id ?? '', id))],
];

/** Result or error, without the id in it. */
async function outcome(call: Promise<unknown>, id: string): Promise<unknown> {
  return call.then(
    (value) => value ?? null,
    (error: Error & { code?: string }) => [error.code, error.message.replaceAll(id, 'ID')],
  );
}

export function receiverRefusals(test: Tests, make: MakeWorld): void {
  const refusal = withScenes(test, make);
  for (const [what, code, call] of [...BAD_BATCHES, ...BAD_MESSAGES]) {
    refusal(`refused: ${what}`, async (t, scene) => {
      await t.throwsAsync(call(scene), { name: 'StillpointError', code });
      await checkUnchanged(t, scene);
    });
  }

  refusal('refused: too many digests at once', async (t, scene) => {
    const error = await t.throwsAsync(
      scene.port.have(scene.sessionId, Buffer.alloc((HAVE_DIGESTS_MAX + 1) * 32)),
    );
    t.true(['bad-message', 'too-large'].includes((error as { code?: string }).code ?? ''));
    await checkUnchanged(t, scene);
  });

  for (const [what, call] of STRANGERS) {
    refusal(`another agent’s ${what} learns and changes nothing`, async (t, scene) => {
      for (const id of [scene.sessionId, scene.point.id]) {
        const nobodys = newSessionId();
        t.deepEqual(
          await outcome(call(scene.stranger, id), id),
          await outcome(call(scene.stranger, nobodys), nobodys),
        );
      }
      await checkUnchanged(t, scene);
    });
  }

  refusal(
    'another agent’s blocks are not held for a device, and its points are not listed',
    async (t, scene) => {
      const sessionId = newSessionId();
      await scene.stranger.begin(beginRequest({ device: scene.device, sessionId }));
      t.deepEqual([...(await scene.stranger.have(sessionId, PLAIN.leafDigest(block(0, 1))))], [0]);
      const [own, ...others] = await scene.stranger.points(scene.device);
      t.regex(own?.agent ?? '', /^stranger/);
      t.deepEqual(others, []);
      await checkUnchanged(t, scene);
    },
  );

  refusal(
    'a second session for the device takes the place of the first',
    async (t, { port, device, sessionId, session, state, point }) => {
      const newer = newSessionId();
      t.like(await port.begin({ ...session, sessionId: newer }), { resumed: false, base: point });
      for (const call of [
        () => port.batch(sessionId, 2, batchOf(sessionId, 2, blocksOf([3], 1))),
        () => port.have(sessionId, Buffer.alloc(32)),
        () => port.pieces(sessionId, [0]),
        () =>
          port.commit(
            sessionId,
            commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, new Map([...state, ...DURABLE])) }),
          ),
      ]) {
        await t.throwsAsync(call(), { code: 'session-unknown' });
      }
      t.like(await port.status(sessionId), { state: 'unknown' });
      t.deepEqual(await port.points(device), [point]);
      const last = await port.commit(newer, commitRequest({ batchCount: 0, root: point.root }));
      await checkContent(t, port, last, state);
    },
  );
}
