import test from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import {
  decodeFailure,
  encodeFailure,
  encodeInvalid,
  encodeRequest,
  encodeResult,
  parseReply,
  parseRequest,
} from '../../../src/tap/control/messages.js';

const SESSION = '0123456789abcdef'.repeat(2);
const HOLD = {
  sessionId: SESSION,
  basePointId: null,
  full: true,
  readBlockSize: 65_536,
  sampleBlocks: [1, 2],
};
const line = (value: unknown): Buffer =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

test('what one side encodes, the other reads', (t) => {
  for (const call of [
    { op: 'prepare', options: HOLD },
    { op: 'close', limits: { barrierMs: 3000, closedMs: 9_876.5 } },
    { op: 'open' },
    { op: 'cut' },
  ] as const)
    t.deepEqual(parseRequest(line(encodeRequest(3, call))), { v: 1, id: 3, ...call });
  t.deepEqual(parseReply(line(encodeResult(3, { a: 1 }))), { v: 1, id: 3, result: { a: 1 } });
  t.deepEqual(parseReply(line(encodeResult(3, undefined))), { v: 1, id: 3, result: null });
  t.deepEqual(parseReply(line(encodeInvalid('full'))), { v: 1, event: 'invalid', reason: 'full' });
});

test('errors cross with code, thing, reason, remedy and permanence', (t) => {
  const details = { thing: 'tap disk', reason: 'it is busy', remedy: 'Wait.', permanent: false };
  const reply = parseReply(line(encodeFailure(4, new StillpointError('session-busy', details))));
  if (!('error' in reply)) return t.fail();
  t.like(decodeFailure(reply.error), { ...details, code: 'session-busy' });
  const unknown = parseReply(line(encodeFailure(null, new Error('x'.repeat(100_000)))));
  t.true('error' in unknown && unknown.error.code === 'internal' && unknown.error.reason.length < 10_000);
});

test('what is no request is refused with the reason', (t) => {
  const request = { v: 1, id: 1, op: 'status' };
  const hold = (changes: object) => ({ v: 1, id: 1, op: 'prepare', options: { ...HOLD, ...changes } });
  const close = (limits: object) => ({ v: 1, id: 1, op: 'close', limits });
  t.notThrows(() => parseRequest(line(request)));
  for (const value of [
    '',
    'nonsense',
    '[]',
    'null',
    {},
    { ...request, op: 'explode' },
    { ...request, id: -1 },
    { ...request, id: 1.5 },
    { ...request, extra: 1 },
    { v: 1, op: 'status' },
    { v: 1, id: 1, op: 'prepare' },
    { v: 1, id: 1, op: 'close' },
    { v: 1, id: 1, op: 'void-map' },
    hold({ sessionId: 'short' }),
    hold({ basePointId: SESSION.toUpperCase() }),
    hold({ sampleBlocks: [-1] }),
    hold({ sampleBlocks: new Array(65_537).fill(1) }),
    close({ barrierMs: 600_001, closedMs: 1 }),
    close({ barrierMs: 1, closedMs: 'long' }),
    close({ barrierMs: 1 }),
    hold({ preserveDirectory: '/etc' }),
  ]) {
    t.throws(() => parseRequest(line(value)), { code: 'bad-message' }, JSON.stringify(value).slice(0, 80));
  }
});

test('another version is told as such, before anything else of the message is read', (t) => {
  t.throws(() => parseRequest(line({ v: 2, op: 'new' })), { code: 'version', message: /version 2/ });
  t.throws(() => parseReply(line({ v: 0 })), { code: 'version' });
});
