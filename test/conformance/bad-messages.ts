/** All other messages that are wrong in one thing each. */
import {
  BAD_RANGES_MAX,
  CHECK_RANGES_MAX,
  GROUP_MEMBERS_MAX,
  JOURNAL_APPEND_BYTES_MAX,
  MiB,
  NODES_REQUEST_MAX,
  ORDER_WAIT_MS_MAX,
  PIECES_REQUEST_MAX,
  WARNINGS_MAX,
} from '../../src/domain/base/limits.js';
import type { GroupReport, GroupStepRequest, MemberStall } from '../../src/domain/group/steps.js';
import type { JournalEnd } from '../../src/domain/journal/journal.js';
import type { BeginRequest, CommitRequest } from '../../src/domain/session/messages.js';
import { journalRecords } from '../helpers/bytes/journal-records.js';
import { beginRequest, commitRequest, GEOMETRY } from '../helpers/bytes/requests.js';
import type { BadCall, BadCase } from './receiver/scene.js';
import { eventsOf, newSessionId } from './receiver.js';

const begin = (change: (session: BeginRequest) => Partial<BeginRequest>): BadCall => {
  return ({ port, session }) => port.begin({ ...session, sessionId: newSessionId(), ...change(session) });
};
const commit = (change: Partial<CommitRequest>): BadCall => {
  return ({ port, sessionId }) => port.commit(sessionId, commitRequest({ batchCount: 1, ...change }));
};
/** Wrongly typed on purpose: what JSON can carry and the types can't. */
const wrong = <T>(value: unknown): T => value as T;

const check = (ranges: [number, number][]): BadCall => {
  return ({ port, point }) => eventsOf(port.check(point.id, ranges));
};

const step = (report: GroupReport, changes: Partial<GroupStepRequest> = {}): BadCall => {
  return ({ port }) => port.groupStep({ runId: newSessionId(), report, waitMs: 0, ...changes });
};
const cut = (stalls: readonly MemberStall[]): GroupReport => ({ state: 'cut', try: 1, stalls });
const transferred = (sessionIds: readonly string[]): GroupReport => ({
  ...{ state: 'transferred', kind: 'crash', sessionIds },
});

const endOfJournal = (change: Partial<JournalEnd>): BadCall => {
  const end = { reason: 'the spool is full', stamp: '1', lastOrdinal: 1, ...change };
  return ({ port }) => port.endJournal(newSessionId(), end);
};

const GROUP = { id: '1'.repeat(32), name: 'group', sessionIds: ['2'.repeat(32)] };

export const BAD_MESSAGES: readonly BadCase[] = [
  ['a path as a device name', 'bad-name', begin(() => ({ device: '../../etc/passwd' }))],
  ['a slash in a device name', 'bad-name', begin(() => ({ device: 'a/b' }))],
  ['a dot as a device name', 'bad-name', begin(() => ({ device: '.' }))],
  ['an empty device name', 'bad-name', begin(() => ({ device: '' }))],
  ['a device name with NUL', 'bad-name', begin(() => ({ device: 'a\0b' }))],
  ['a device name that is too long', 'bad-name', begin(() => ({ device: 'a'.repeat(65) }))],
  ['a path as a device name in points', 'bad-name', ({ port }) => port.points('../host')],
  ['a path as the device of a removed point', 'bad-name', ({ port }) => port.removedPoint('../host', 1)],
  ['sequence 0 of a removed point', 'bad-message', ({ port }) => port.removedPoint('disk', 0)],
  [
    'an option of points that is no truth value',
    'bad-message',
    ({ port }) => port.points('disk', { last: wrong(1) }),
  ],
  [
    'a path as a session id',
    'bad-message',
    begin(() => ({ sessionId: '../../../../etc/passwd/xxxxxxxxxx' })),
  ],
  [
    'a block size that is none',
    'bad-geometry',
    begin(() => ({ geometry: { ...GEOMETRY, blockSize: 1000 } })),
  ],
  ['a negative size', 'bad-geometry', begin(() => ({ geometry: { ...GEOMETRY, sizeBytes: -1 } }))],
  ['half a byte', 'bad-geometry', begin(() => ({ geometry: { ...GEOMETRY, sizeBytes: 0.5 } }))],
  [
    'a size beyond all devices',
    'bad-geometry',
    begin(() => ({ geometry: { ...GEOMETRY, sizeBytes: 2 ** 60 } })),
  ],
  ['a begin that says its instant', 'bad-message', begin(() => wrong({ instant: '2026-01-01T00:00:00Z' }))],
  ['an unknown field', 'bad-message', begin(() => wrong({ superuser: true }))],
  [
    'an identity of a megabyte',
    'bad-message',
    begin(({ identity }) => ({ identity: { ...identity, serial: 'x'.repeat(MiB) } })),
  ],
  [
    'another device',
    'device-identity',
    begin(({ identity }) => ({ identity: { ...identity, inode: '8:1/43' } })),
  ],
  [
    'another block size in the same chain',
    'base-mismatch',
    begin(() => ({ geometry: { ...GEOMETRY, blockSize: 4096 } })),
  ],
  [
    'the open session for another size',
    'bad-message',
    ({ port, session }) =>
      port.begin({ ...session, geometry: { ...GEOMETRY, sizeBytes: 2 * GEOMETRY.sizeBytes } }),
  ],
  [
    'the id of a committed point',
    'session-closed',
    ({ port, session, point }) => port.begin({ ...session, sessionId: point.id }),
  ],
  ['a false root', 'root-mismatch', commit({ root: 'd'.repeat(64) })],
  ['a root that is none', 'bad-message', commit({ root: 'd' })],
  ['a group without an id', 'bad-message', commit({ group: { ...GROUP, id: 'x' } })],
  ['a group without sessions', 'bad-message', commit({ group: { ...GROUP, sessionIds: [] } })],
  [
    'a group of too many sessions',
    'bad-message',
    commit({ group: { ...GROUP, sessionIds: Array.from({ length: 33 }, () => newSessionId()) } }),
  ],
  ['a group that numbers itself', 'bad-message', commit({ group: wrong({ ...GROUP, sequence: 7 }) })],
  ['a group that does not name the session', 'bad-message', commit({ group: GROUP })],
  ['a path as a group’s name', 'bad-name', commit({ group: { ...GROUP, name: '../host' } })],
  ['a commit of more batches than came', 'out-of-order', commit({ batchCount: 2 })],
  ['a commit of fewer batches than came', 'out-of-order', commit({ batchCount: 0 })],
  [
    'negative statistics',
    'bad-message',
    commit({ statistics: { scannedBytes: -1, changedBytes: 0, wireBytes: 0, durationMs: 0 } }),
  ],
  [
    'too many bad ranges',
    'bad-message',
    commit({
      badRanges: Array.from({ length: BAD_RANGES_MAX + 1 }, (_, i) => ({
        byteOffset: 512 * i,
        byteLength: 512,
        content: 'filler' as const,
      })),
    }),
  ],
  [
    'a bad range beyond the end',
    'bad-message',
    commit({ badRanges: [{ byteOffset: GEOMETRY.sizeBytes - 512, byteLength: 1024, content: 'filler' }] }),
  ],
  [
    'bad ranges that don’t ascend',
    'bad-message',
    commit({
      badRanges: [512, 0].map((byteOffset) => ({ byteOffset, byteLength: 512, content: 'filler' as const })),
    }),
  ],
  [
    'too many warnings',
    'bad-message',
    commit({ warnings: Array.from({ length: WARNINGS_MAX + 1 }, () => 'w') }),
  ],
  ['batch 0', 'bad-message', ({ port, sessionId }) => port.batch(sessionId, 0, Buffer.alloc(1))],
  ['batch 1.5', 'bad-message', ({ port, sessionId }) => port.batch(sessionId, 1.5, Buffer.alloc(1))],
  [
    'a batch far ahead',
    'out-of-order',
    ({ port, sessionId }) => port.batch(sessionId, 1000, Buffer.alloc(1)),
  ],
  [
    'a batch of an unknown session',
    'session-unknown',
    ({ port }) => port.batch(newSessionId(), 1, Buffer.alloc(1)),
  ],
  [
    'a batch of a committed session',
    'session-closed',
    ({ port, point }) => port.batch(point.id, 2, Buffer.alloc(1)),
  ],
  [
    'a commit of an unknown session',
    'session-unknown',
    ({ port }) => port.commit(newSessionId(), commitRequest()),
  ],
  [
    'a commit of a point with another root',
    'root-mismatch',
    ({ port, point }) => port.commit(point.id, commitRequest()),
  ],
  [
    'a commit of a point as of another instant',
    'session-closed',
    ({ port, point }) =>
      port.commit(point.id, commitRequest({ root: point.root, instant: '2027-01-01T00:00:00.000Z' })),
  ],
  ['an abort of a committed session', 'session-closed', ({ port, point }) => port.abort(point.id)],
  ['half a digest', 'bad-message', ({ port, sessionId }) => port.have(sessionId, Buffer.alloc(16))],
  ['no digest', 'bad-message', ({ port, sessionId }) => port.have(sessionId, Buffer.alloc(0))],
  [
    'digests of an unknown session',
    'session-unknown',
    ({ port }) => port.have(newSessionId(), Buffer.alloc(32)),
  ],
  ['pieces of an unknown session', 'session-unknown', ({ port }) => port.pieces(newSessionId(), [0])],
  ['pieces of a committed session', 'session-closed', ({ port, point }) => port.pieces(point.id, [0])],
  ['pieces beyond the end', 'bad-message', ({ port, sessionId }) => port.pieces(sessionId, [0, 16])],
  ['pieces of a negative block', 'bad-message', ({ port, sessionId }) => port.pieces(sessionId, [-1])],
  ['pieces of half a block', 'bad-message', ({ port, sessionId }) => port.pieces(sessionId, [0.5])],
  ['pieces that don’t ascend', 'bad-message', ({ port, sessionId }) => port.pieces(sessionId, [1, 0])],
  ['pieces of a block twice', 'bad-message', ({ port, sessionId }) => port.pieces(sessionId, [1, 1])],
  ['pieces of no block', 'bad-message', ({ port, sessionId }) => port.pieces(sessionId, [])],
  [
    'pieces of a block that is no number',
    'bad-message',
    ({ port, sessionId }) => port.pieces(sessionId, wrong(['0'])),
  ],
  [
    'pieces of too many blocks',
    'bad-message',
    ({ port, sessionId }) =>
      port.pieces(
        sessionId,
        Array.from({ length: PIECES_REQUEST_MAX + 1 }, (_, i) => i),
      ),
  ],
  [
    'pieces of too many bytes',
    'bad-message',
    async ({ port }) => {
      const sessionId = newSessionId();
      const geometry = { sizeBytes: 32 * MiB, blockSize: 4 * MiB };
      await port.begin(beginRequest({ sessionId, geometry, device: 'other' }));
      await port.pieces(sessionId, [0, 1, 2, 3]);
      await port.pieces(sessionId, [0, 1, 2, 3, 4]);
    },
  ],
  [
    'nodes of an unknown point',
    'point-unknown',
    ({ port }) => port.nodes(newSessionId(), [{ level: 1, index: 0 }]),
  ],
  ['nodes above the top', 'bad-message', ({ port, point }) => port.nodes(point.id, [{ level: 2, index: 0 }])],
  [
    'nodes beside the tree',
    'bad-message',
    ({ port, point }) => port.nodes(point.id, [{ level: 1, index: 1 }]),
  ],
  ['leaves as nodes', 'bad-message', ({ port, point }) => port.nodes(point.id, [{ level: 0, index: 0 }])],
  ['no nodes', 'bad-message', ({ port, point }) => port.nodes(point.id, [])],
  [
    'too many nodes',
    'bad-message',
    ({ port, point }) =>
      port.nodes(
        point.id,
        Array.from({ length: NODES_REQUEST_MAX + 1 }, () => ({ level: 1, index: 0 })),
      ),
  ],
  ['blocks of an unknown point', 'point-unknown', ({ port }) => port.blocks(newSessionId(), [0])],
  ['blocks beyond the end', 'bad-message', ({ port, point }) => port.blocks(point.id, [16])],
  ['blocks that don’t ascend', 'bad-message', ({ port, point }) => port.blocks(point.id, [1, 0])],
  ['a block twice', 'bad-message', ({ port, point }) => port.blocks(point.id, [1, 1])],
  ['half a block', 'bad-message', ({ port, point }) => port.blocks(point.id, [0.5])],
  ['no blocks', 'bad-message', ({ port, point }) => port.blocks(point.id, [])],
  ['a path as a point id', 'bad-message', ({ port }) => port.blocks('../../store.json', [0])],
  ['a check of no ranges', 'bad-message', check([])],
  ['a check beyond the end', 'bad-message', check([[15, 17]])],
  [
    'a check of ranges that don’t ascend',
    'bad-message',
    check([
      [2, 3],
      [0, 1],
    ]),
  ],
  [
    'a check of ranges that overlap',
    'bad-message',
    check([
      [0, 2],
      [1, 3],
    ]),
  ],
  ['a check of an empty range', 'bad-message', check([[1, 1]])],
  ['a check from before the start', 'bad-message', check([[-1, 1]])],
  ['a check of half a range', 'bad-message', check(wrong([[0]]))],
  [
    'a check of too many ranges',
    'bad-message',
    check(Array.from({ length: CHECK_RANGES_MAX + 1 }, (_, i) => [2 * i, 2 * i + 1])),
  ],
  ['a check of an unknown point', 'point-unknown', ({ port }) => eventsOf(port.check(newSessionId()))],
  [
    'a diff from an unknown point',
    'point-unknown',
    ({ port, point }) => eventsOf(port.diff(newSessionId(), point.id)),
  ],
  [
    'a diff to an unknown point',
    'point-unknown',
    ({ port, point }) => eventsOf(port.diff(point.id, newSessionId())),
  ],
  [
    'a diff from a path',
    'bad-message',
    ({ port, point }) => eventsOf(port.diff('../../store.json', point.id)),
  ],
  ['a diff to nothing', 'bad-message', ({ port, point }) => eventsOf(port.diff(point.id, wrong(undefined)))],
  ['a step of a run without an id', 'bad-message', step({ state: 'preparing' }, { runId: wrong('db') })],
  ['a step without a report', 'bad-message', step(wrong(undefined))],
  ['a step of an unknown state', 'bad-message', step(wrong({ state: 'open' }))],
  ['a step of try 0', 'bad-message', step({ state: 'ready', try: 0 })],
  ['a step of half a try', 'bad-message', step({ state: 'closed', try: 1.5 })],
  ['a step that says more', 'bad-message', step(wrong({ state: 'preparing', try: 1 }))],
  [
    'a step that waits too long',
    'bad-message',
    step({ state: 'preparing' }, { waitMs: ORDER_WAIT_MS_MAX + 1 }),
  ],
  ['a step that does not say why', 'bad-message', step(wrong({ state: 'missed', try: 1, again: true }))],
  ['a step with a negative stall', 'bad-message', step(cut([{ device: 'disk', stallMs: -1 }]))],
  ['a step with a path as a device', 'bad-name', step(cut([{ device: '../disk', stallMs: 1 }]))],
  ['a step without sessions', 'bad-message', step(transferred([]))],
  ['a step with a path as a session', 'bad-message', step(transferred(['../../store.json']))],
  [
    'a step with too many sessions',
    'bad-message',
    step(transferred(Array.from({ length: GROUP_MEMBERS_MAX + 1 }, newSessionId))),
  ],
  [
    'a journal of a path',
    'bad-name',
    ({ port }) => port.beginJournal('../disk', newSessionId(), newSessionId()),
  ],
  [
    'a path as a journal id',
    'bad-message',
    ({ port }) => port.beginJournal('disk', '../../store.json', newSessionId()),
  ],
  ['a journal without a clock', 'bad-message', ({ port }) => port.beginJournal('disk', newSessionId(), '')],
  ['journals of a path', 'bad-name', ({ port }) => port.journals('../host')],
  [
    'records of an unknown journal',
    'journal-unknown',
    ({ port }) => port.appendJournal(newSessionId(), journalRecords(1, 2)),
  ],
  [
    'records of a journal that is a path',
    'bad-message',
    ({ port }) => port.appendJournal('../../store.json', journalRecords(1, 2)),
  ],
  [
    'too many records of a journal',
    'too-large',
    ({ port }) => port.appendJournal(newSessionId(), Buffer.alloc(JOURNAL_APPEND_BYTES_MAX + 1)),
  ],
  ['an end of an unknown journal', 'journal-unknown', endOfJournal({})],
  ['an end of a journal that does not say why', 'bad-message', endOfJournal({ reason: wrong(undefined) })],
  ['an end of a journal at no stamp', 'bad-message', endOfJournal({ stamp: '-1' })],
  ['an end of a journal at half a record', 'bad-message', endOfJournal({ lastOrdinal: 1.5 })],
  ['an end of a journal that says more', 'bad-message', endOfJournal(wrong({ more: 1 }))],
  [
    'a question for records of an unknown journal',
    'journal-unknown',
    ({ port }) => port.journalRecords(newSessionId(), 0, '1'),
  ],
  [
    'a question for records before the first',
    'bad-message',
    ({ port }) => port.journalRecords(newSessionId(), -1, '1'),
  ],
  [
    'a question for records up to no stamp',
    'bad-message',
    ({ port }) => port.journalRecords(newSessionId(), 0, '1e9'),
  ],
  ['verification of an unknown point', 'point-unknown', ({ port }) => eventsOf(port.verify(newSessionId()))],
];
