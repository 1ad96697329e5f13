/** The table of messages: what holds for every row, and for what is made from it. */
import test from 'ava';
import type { BeginRequest, PartialSet } from '../../../src/domain/session/messages.js';
import { answerBytes, requestBytes } from '../../../src/protocol/messages/body-bytes.js';
import { ENROL_MESSAGE } from '../../../src/protocol/messages/enrol-message.js';
import { requestBody } from '../../../src/protocol/messages/request-forms.js';
import { MESSAGE_NAMES, MESSAGES, type MessagePort } from '../../../src/protocol/messages/table.js';
import { BodyCounter } from '../../../src/protocol/port/body-counter.js';
import { checked } from '../../../src/protocol/port/checked.js';
import { beginRequest, commitRequest } from '../../helpers/bytes/requests.js';
import { fakePort } from '../../helpers/fakes/port.js';

const ID = 'ab'.repeat(16);
const PROGRESS = { phase: 'scan', doneBytes: 1, totalBytes: 2, changedBytes: 0, wireBytes: 0 } as const;

const PLAN = { device: 'disk', schedule: 'daily', nextAt: null, failures: 1, isPaused: true };

/** Arguments of each message, with and without those that may be left out. */
const ARGS: { readonly [Name in keyof MessagePort]: readonly Parameters<MessagePort[Name]>[] } = {
  begin: [[beginRequest()]],
  have: [[ID, Buffer.alloc(64)]],
  pieces: [[ID, [1, 5]]],
  batch: [[ID, 7, Buffer.from('a batch')]],
  status: [[ID]],
  commit: [[ID, commitRequest({ batchCount: 3 })]],
  abort: [[ID]],
  info: [[]],
  points: [[], ['disk'], ['disk', { last: true }]],
  partialSets: [[], ['disk']],
  removedPoint: [['disk', 7]],
  nodes: [[ID, [{ level: 1, index: 0 }]]],
  compareNodes: [[Buffer.from('a question')]],
  blocks: [[ID, [0, 9]]],
  verify: [[], [ID], [undefined, 'disk']],
  check: [[ID], [ID, [[0, 2]]], [ID, [[0, 2]], { known: true }]],
  damage: [[], ['disk']],
  diff: [[ID, 'cd'.repeat(16)]],
  awaitOrder: [
    [{ devices: ['disk'], running: [], ordersMax: 1, waitMs: 10 }],
    [{ devices: ['disk'], running: [], plans: [PLAN], ordersMax: 1, waitMs: 10 }],
  ],
  rounds: [[]],
  groupStep: [[{ runId: ID, report: { state: 'ready', try: 1 }, waitMs: 10 }]],
  beginJournal: [['disk', ID, 'cd'.repeat(16)]],
  appendJournal: [[ID, Buffer.from('records')]],
  endJournal: [[ID, { reason: 'the spool was full', stamp: '1785500000000000000', lastOrdinal: 9 }]],
  journals: [[], ['disk']],
  journalRecords: [[ID, 0, '1785500000000000000']],
  reportOrder: [[ID, { state: 'running', progress: PROGRESS }]],
};

/** Over the wire and back. */
function received(name: keyof MessagePort, args: readonly unknown[]): readonly unknown[] {
  const form = MESSAGES[name].request as {
    encode(...args: readonly unknown[]): Parameters<typeof requestBody>[0];
    decode(request: object): unknown[];
    check(args: readonly unknown[]): unknown[];
    readonly bytesMax: number;
  };
  const content = form.encode(...args);
  const { sessionId = '', sequence = Number.NaN } = content;
  const body = requestBody(content) ?? Buffer.alloc(0);
  if (body.length > form.bytesMax) throw new Error(`${body.length} bytes`);
  const gone = () => new AbortController().signal;
  return form.check(form.decode({ sessionId, sequence, body, gone }));
}

const withoutEnd = (args: readonly unknown[]): unknown[] => {
  const kept = args.filter((arg) => !(arg instanceof AbortSignal));
  while (kept.length > 0 && (kept.at(-1) === undefined || isEmptyObject(kept.at(-1)))) kept.pop();
  return kept;
};
const isEmptyObject = (value: unknown) =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

test('what an agent writes into a request the receiver reads out of it, for every message', (t) => {
  t.deepEqual(Object.keys(ARGS).sort(), [...MESSAGE_NAMES].sort());
  for (const name of MESSAGE_NAMES) {
    for (const args of ARGS[name]) t.deepEqual(withoutEnd(received(name, args)), withoutEnd(args), name);
  }
});

test('each message has a path of its own', (t) => {
  const paths = [...MESSAGE_NAMES.map((name) => MESSAGES[name].path), ENROL_MESSAGE.path];
  t.deepEqual([...new Set(paths)], paths);
  for (const path of paths) t.regex(path, /^(\/[a-z]+)+$/);
});

test('a receiver in the same process is handed what its message allows, and nothing else', async (t) => {
  const handed: unknown[][] = [];
  const port = checked(
    fakePort<MessagePort>({
      begin: async (...args) => {
        handed.push(args);
        throw new Error('far enough');
      },
      diff: async function* (...args) {
        handed.push(args);
        yield { type: 'progress', doneBytes: 0, totalBytes: 0 };
      },
    }),
  );
  const wrong = { ...beginRequest(), superuser: true } as BeginRequest;
  await t.throwsAsync(port.begin(wrong), { code: 'bad-message' });
  await t.throwsAsync(port.diff('../x', ID)[Symbol.asyncIterator]().next(), { code: 'bad-message' });
  t.deepEqual(handed, []);
  await t.throwsAsync(port.begin(beginRequest()), { message: 'far enough' });
  t.is((await port.diff(ID, ID)[Symbol.asyncIterator]().next()).done, false);
  t.is(handed.length, 2);
});

test('a counter counts the bodies of requests and answers, of each attempt', async (t) => {
  const counter = new BodyCounter();
  const nodes = Buffer.alloc(100);
  let isUp = false;
  const port = counter.count(
    fakePort<Pick<MessagePort, 'nodes' | 'status' | 'check'>>({
      nodes: async () => {
        if (isUp) return nodes;
        throw new Error('the link is down');
      },
      check: async function* () {
        yield { type: 'summary', blockCount: 1, damagedBlocks: 0 };
      },
    }),
  );
  const question = Buffer.byteLength(JSON.stringify({ pointId: ID, requests: [{ level: 1, index: 0 }] }));
  await t.throwsAsync(port.nodes(ID, [{ level: 1, index: 0 }]));
  t.is(counter.bytes, question);
  isUp = true;
  t.is(await port.nodes(ID, [{ level: 1, index: 0 }]), nodes);
  t.is(counter.bytes, 2 * question + 100);
  const before = counter.bytes;
  for await (const _ of port.check(ID)) {
    // Only counted.
  }
  const lines = `{"pointId":"${ID}"}{"type":"summary","blockCount":1,"damagedBlocks":0}\n`;
  t.is(counter.bytes - before, lines.length);
});

test('bytes of a list are those of its lines, and nothing is nothing', (t) => {
  t.is(requestBytes(MESSAGES.status, [ID]), 0);
  t.is(answerBytes(MESSAGES.abort, undefined), '{}'.length);
  t.is(answerBytes(MESSAGES.partialSets, []), 0);
  const set: PartialSet = {
    ...{ device: 'disk', sessionId: ID, begunAt: null, durableBytes: 0 },
    ...{ state: 'open', lastActivityAt: '', expiresAt: '' },
  };
  t.is(answerBytes(MESSAGES.partialSets, [set, set]), 2 * (JSON.stringify(set).length + 1));
});
