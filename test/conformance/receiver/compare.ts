/** The question which children of tree nodes differ, as every ReceiverPort answers it. */
import { NODES_REQUEST_MAX } from '../../../src/domain/base/limits.js';
import {
  type ComparedNode,
  decodeAnswer,
  encodeQuestion,
} from '../../../src/protocol/codecs/compare-codec.js';
import { batchOf } from '../../helpers/bytes/batches.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { beginRequest, commitRequest } from '../../helpers/bytes/requests.js';
import { stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import type { Tests } from '../../helpers/in-turns.js';
import { seededRandom } from '../../helpers/seed.js';
import { rootOf } from '../../helpers/worlds/store-device.js';
import { type MakeWorld, newSessionId } from '../receiver.js';
import { type BadCase, checkUnchanged, withScenes } from './scene.js';

/** Two levels of nodes, the last one short. */
const GEOMETRY = { sizeBytes: 200 * 4096 - 512, blockSize: 4096 };
const FILLED = [0, 1, 63, 64, 65, 130, 199];
const NULL_DIGEST = Buffer.alloc(32);
const INNER = { level: 1, index: 0, content: Buffer.alloc(0) } as const;

const ask = (
  nodes: readonly ComparedNode[],
  change: (question: Buffer) => Buffer = (question) => question,
): BadCase[2] => {
  return ({ port, point }) => port.compareNodes(change(encodeQuestion(point.id, nodes)));
};
const withByte = (at: number, byte: number) => (question: Buffer) => {
  question[at] = byte;
  return question;
};

const BAD_QUESTIONS: readonly BadCase[] = [
  ['a comparison with a wrong magic', 'bad-message', ask([INNER], withByte(6, 0x32))],
  ['a comparison with a reserved byte set', 'bad-message', ask([INNER], withByte(30, 1))],
  ['a comparison of a node with a reserved byte set', 'bad-message', ask([INNER], withByte(33, 1))],
  ['a comparison of no nodes', 'bad-message', ask([])],
  ['an empty comparison', 'bad-message', ask([INNER], () => Buffer.alloc(0))],
  ['a comparison that breaks off', 'bad-message', ask([INNER], (question) => question.subarray(0, -1))],
  [
    'a comparison that goes on',
    'bad-message',
    ask([INNER], (question) => Buffer.concat([question, Buffer.alloc(1)])),
  ],
  [
    'a comparison of a node with 65 children',
    'bad-message',
    ask([{ ...INNER, content: Buffer.alloc(65 * 32) }]),
  ],
  ['a comparison above the top', 'bad-message', ask([{ ...INNER, level: 2 }])],
  ['a comparison beside the tree', 'bad-message', ask([{ ...INNER, index: 1 }])],
  ['a comparison of leaves', 'bad-message', ask([{ ...INNER, level: 0 }])],
  ['a comparison far beside the tree', 'bad-message', ask([{ ...INNER, index: Number.MAX_SAFE_INTEGER }])],
  [
    'a comparison of an unknown point',
    'point-unknown',
    ({ port }) => port.compareNodes(encodeQuestion(newSessionId(), [INNER])),
  ],
];

export function receiverCompare(test: Tests, make: MakeWorld): void {
  const refusal = withScenes(test, make);
  test('comparison: which children differ, and which are NULL, at every level and in any order', async (t) => {
    const port = await (await make(t)).portFor('host');
    const blocks = new Map(
      FILLED.map((blockIndex) => {
        const length = blockIndex === 199 ? 4096 - 512 : 4096;
        return [blockIndex, Buffer.from(stampedBlock({ seed: 1, blockIndex, generation: 1 }, length))];
      }),
    );
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId, geometry: GEOMETRY }));
    await port.batch(sessionId, 1, batchOf(sessionId, 1, blocks));
    const root = rootOf({ geometry: GEOMETRY, blocks });
    const point = await port.commit(sessionId, commitRequest({ batchCount: 1, root }));

    const leaf = (block: number) => {
      const bytes = blocks.get(block);
      return bytes === undefined ? NULL_DIGEST : PLAIN.leafDigest(bytes);
    };
    const level1 = [0, 1, 2, 3].map((node) =>
      Array.from({ length: node === 3 ? 8 : 64 }, (_, child) => leaf(node * 64 + child)),
    );
    const digests = level1.map((children) => PLAIN.nodeDigest(trimmed(children)));
    const nodes = [
      ...level1.map((theirs, index) => ({ level: 1, index, theirs })),
      { level: 2, index: 0, theirs: digests },
    ];

    const random = seededRandom(t);
    for (let round = 0; round < 20; round += 1) {
      const asked = Array.from({ length: 1 + random.below(8) }, () => {
        const { level, index, theirs } = random.pick(nodes);
        const own = theirs.map((digest) => random.pick([digest, digest, NULL_DIGEST, Buffer.alloc(32, 7)]));
        const count = random.pick([own.length, random.below(own.length + 1)]);
        return { level, index, theirs, own: own.slice(0, count) };
      });
      const question = encodeQuestion(
        point.id,
        asked.map(({ level, index, own }) => ({ level, index, content: Buffer.concat(own) })),
      );
      const answer = decodeAnswer(await port.compareNodes(question), asked.length);
      for (const [n, { theirs, own }] of asked.entries()) {
        const at = (list: readonly Buffer[], child: number) => list[child] ?? NULL_DIGEST;
        const bits = (is: (child: number) => boolean) =>
          Array.from({ length: 64 }, (_, child) => (is(child) ? 2n ** BigInt(child) : 0n)).reduce(
            (a, b) => a + b,
          );
        t.is(
          answer[n]?.differing,
          bits((child) => !at(own, child).equals(at(theirs, child))),
        );
        t.is(
          answer[n]?.nulls,
          bits((child) => at(theirs, child).equals(NULL_DIGEST)),
        );
      }
    }
    const many = Array.from({ length: NODES_REQUEST_MAX }, () => ({
      level: 2,
      index: 0,
      content: Buffer.concat(digests),
    }));
    const answer = decodeAnswer(await port.compareNodes(encodeQuestion(point.id, many)), many.length);
    t.true(answer.every(({ differing }) => differing === 0n));
  });

  for (const [what, code, call] of BAD_QUESTIONS) {
    refusal(`refused: ${what}`, async (t, scene) => {
      await t.throwsAsync(call(scene), { name: 'StillpointError', code });
      await checkUnchanged(t, scene);
    });
  }

  refusal('refused: a comparison of too many nodes, in any words', async (t, scene) => {
    const nodes = Array.from({ length: NODES_REQUEST_MAX + 1 }, () => INNER);
    const full = nodes.map((node) => ({ ...node, content: Buffer.alloc(64 * 32, 1) }));
    for (const some of [nodes, full]) {
      const error = await t.throwsAsync(scene.port.compareNodes(encodeQuestion(scene.point.id, some)));
      t.true(['bad-message', 'too-large'].includes((error as { code?: string }).code ?? ''));
    }
    await checkUnchanged(t, scene);
  });
}

function trimmed(children: readonly Buffer[]): Buffer {
  let end = children.length;
  while (end > 0 && children[end - 1]?.equals(NULL_DIGEST)) end -= 1;
  return Buffer.concat(children.slice(0, end));
}
