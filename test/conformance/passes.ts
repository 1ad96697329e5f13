/** What every ReceiverPort promises of sessions that ship in passes, and learn their instant at the end. */
import { PROVIDER_FACTS_MAX } from '../../src/domain/base/limits.js';
import type { CommitRequest } from '../../src/domain/session/messages.js';
import { batchOf, encodeTestBatch, encodeTestRecord, rootOf } from '../helpers/bytes/batches.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { beginRequest, commitRequest, GEOMETRY } from '../helpers/bytes/requests.js';
import type { Tests } from '../helpers/in-turns.js';
import { checkUnchanged, withScenes } from './receiver/scene.js';
import {
  type Blocks,
  backUp,
  block,
  blocksOf,
  checkContent,
  type MakeWorld,
  newSessionId,
} from './receiver.js';

/** Wrongly typed on purpose: what JSON can carry and the types can't. */
const wrong = <T>(value: unknown): T => value as T;

const BAD_FACTS: readonly [what: string, change: Partial<CommitRequest>, message: RegExp][] = [
  ['no instant', { instant: wrong(undefined) }, /instant: a time such as/],
  ['an instant that is none', { instant: 'yesterday' }, /instant: a time such as 2026-/],
  ['an instant that is a number', { instant: wrong(1_767_225_600_000) }, /instant: a time such as/],
  ['no kind', { kind: wrong(undefined) }, /kind: .*"application".*"fuzzy"/],
  ['an unknown kind', { kind: wrong('perfect') }, /kind: .*"application".*"fuzzy"/],
  ['no provider', { provider: wrong(undefined) }, /provider: 1 to 32 lower-case letters/],
  ['a provider without a name', { provider: '' }, /provider: 1 to 32 lower-case letters/],
  ['a provider of two lines', { provider: 'tap\ntap' }, /provider: 1 to 32 lower-case letters/],
  ['no facts', { providerFacts: wrong(undefined) }, /providerFacts: /],
  ['facts that are a list', { providerFacts: wrong(['fast']) }, /providerFacts: /],
  ['a fact without a plain name', { providerFacts: { 'frozen ms': 20 } }, /names of 1 to 32 letters/],
  ['a fact of several parts', { providerFacts: wrong({ passes: [1] }) }, /passes: .*a text, a number or/],
  ['a fact of a novel’s length', { providerFacts: { story: 'x'.repeat(1000) } }, /providerFacts/],
  [
    'too many facts',
    {
      providerFacts: Object.fromEntries(
        Array.from({ length: PROVIDER_FACTS_MAX + 1 }, (_, i) => [i < 32 ? 'x'.repeat(i + 1) : 'y', i]),
      ),
    },
    /at most 32 facts/,
  ],
];

export function passesConformance(test: Tests, make: MakeWorld): void {
  const refusal = withScenes(test, make);
  refusal(
    'refused: a commit whose instant, kind or provider is none; the session goes on',
    async (t, scene) => {
      const { port, sessionId } = scene;
      for (const [what, change, message] of BAD_FACTS) {
        const commit = port.commit(sessionId, commitRequest({ batchCount: 1, ...change }));
        await t.throwsAsync(commit, { name: 'StillpointError', code: 'bad-message', message }, what);
      }
      await checkUnchanged(t, scene);
    },
  );

  test('the instant, its kind and its provider are those of the commit', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const facts = {
      kind: 'filesystem',
      provider: 'live',
      providerFacts: { passes: 3, frozenMs: 27.5, map: 'of 4 KiB', converged: true },
      instant: '2026-07-08T09:10:11.123Z',
      statistics: { scannedBytes: 3, changedBytes: 2, wireBytes: 1, durationMs: 4 },
    } as const;
    const point = await port.commit(
      sessionId,
      commitRequest({ root: rootOf(GEOMETRY, new Map()), ...facts }),
    );
    t.like(point, facts);
    await world.restart();
    t.deepEqual(await (await world.portFor('host')).points(), [point]);
  });

  test('of a block that comes in several passes the last content counts, also after a restart between them', async (t) => {
    const world = await make(t);
    let port = await world.portFor('host');
    const state: Blocks = new Map();
    const first = await backUp(port, state, blocksOf([0, 1, 2, 3, 4], 1));
    const before: Blocks = new Map(state);
    const request = beginRequest({ sessionId: newSessionId() });
    const { sessionId } = request;
    await port.begin(request);
    const passOne = blocksOf([0, 1, 2, 3, 9], 2);
    await port.batch(sessionId, 1, batchOf(sessionId, 1, passOne));
    await world.restart();
    port = await world.portFor('host');
    t.like(await port.begin(request), { resumed: true, durableSequence: 1, durableBlockEnd: 10 });

    // Pass 2: another content, that of the base again (sent, and named as held), zero; block 9 is
    // new, and stays as it came.
    const passTwo = encodeTestBatch({
      ...{ sessionId, sequence: 2 },
      entries: [
        { blockIndex: 0, kind: 1, digest: PLAIN.leafDigest(block(0, 3)), ordinal: 0 },
        { blockIndex: 1, kind: 1, digest: PLAIN.leafDigest(block(1, 1)), ordinal: 1 },
        { blockIndex: 2, kind: 2, digest: PLAIN.leafDigest(block(2, 1)) },
        { blockIndex: 3, kind: 0 },
      ],
      records: [encodeTestRecord(block(0, 3)), encodeTestRecord(block(1, 1))],
    });
    t.deepEqual(await port.batch(sessionId, 2, passTwo), { durableSequence: 2 });
    // What only an earlier pass had is held still, and may come back.
    t.deepEqual([...(await port.have(sessionId, PLAIN.leafDigest(block(3, 2))))], [1]);
    const entries = [{ blockIndex: 4, kind: 2, digest: PLAIN.leafDigest(block(3, 2)) }];
    await port.batch(sessionId, 3, encodeTestBatch({ sessionId, sequence: 3, entries }));

    for (const [index, bytes] of passOne) state.set(index, bytes);
    const ofPassOne = rootOf(GEOMETRY, state);
    state.set(0, block(0, 3)).set(1, block(1, 1)).set(2, block(2, 1)).set(4, block(3, 2)).delete(3);
    const commit = commitRequest({ batchCount: 3, root: rootOf(GEOMETRY, state) });
    await t.throwsAsync(port.commit(sessionId, { ...commit, root: ofPassOne }), { code: 'root-mismatch' });
    const point = await port.commit(sessionId, commit);
    await checkContent(t, port, point, state);
    await checkContent(t, port, first, before);
    await world.restart();
    await checkContent(t, await world.portFor('host'), point, state);
  });

  test('a session whose blocks all came back to what they were gives the base’s root', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    const first = await backUp(port, state, blocksOf([2, 7], 1));
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    await port.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([2, 7], 2)));
    await port.batch(sessionId, 2, batchOf(sessionId, 2, blocksOf([2, 7], 1)));
    const point = await port.commit(sessionId, commitRequest({ batchCount: 2, root: first.root }));
    t.like(point, { sequence: 2, root: first.root, top: first.top });
    await checkContent(t, port, point, state);
  });
}
