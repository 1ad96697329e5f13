/**
 * What is in the fixtures of present formats (test/fixtures/README.md): scripts/make-fixtures.mjs writes it,
 * tests compare with it. A fixture stays as it is for ever, so what is said of it here stays too.
 */
import type { KeptSession } from '../../../src/agent/state/kept-session.js';
import { KiB } from '../../../src/domain/base/limits.js';
import { addPin, type RetentionSettings, setPolicy } from '../../../src/domain/retention/settings.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import type { LastRound, Schedule } from '../../../src/receiver/orders/remote-settings.js';
import { PLAIN } from '../bytes/digests.js';
import type { makeBatch } from '../bytes/hand-made-batch.js';
import {
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  emptyState,
  stampedBlock,
} from './store-device.js';

export const BLOCK = 4 * KiB;
const geometry = { sizeBytes: 40 * BLOCK - 1000, blockSize: BLOCK };
const first = change(emptyState(geometry), [
  [0, 1],
  [5, 2],
  [39, 3],
]);
const second = change(first, [
  [5, 4],
  [6, 5],
  [39, null],
]);
const third = change(second, [[20, 6]]);

/** Of device `disk` of agent `alpha`, by sequence. */
export const DISK_STATES: readonly DeviceState[] = [first, second, third];
/** Of `disk` of `beta`, and of a machine's tapped image: shares a block with the others. */
export const BETA_STATE: DeviceState = change(emptyState(geometry), [
  [0, 1],
  [30, 7],
]);
export const REMOVED_SEQUENCE = 2;
export const [OPEN, ENDED] = ['3'.repeat(32), '4'.repeat(32)];
/** Keeps seven days, and pins the first point. */
export function withRetention(settings: RetentionSettings): RetentionSettings {
  const kept = setPolicy(settings, { agent: null, device: null }, { keepDaily: 7 });
  return addPin(kept, {
    ...{ pointId: pointId(0), agent: 'alpha', device: 'disk', sequence: 1, reason: 'the fixture keeps it' },
    ...{ pinnedAtMs: Date.parse('2026-02-03T04:05:00.000Z'), untilMs: null },
  });
}

export const pointId = (index: number) => String(index + 1).padStart(32, 'a');

export function imageOf({ geometry: { sizeBytes, blockSize }, blocks }: DeviceState): Buffer {
  const image = Buffer.alloc(sizeBytes);
  for (const [blockIndex, bytes] of blocks) bytes.copy(image, blockIndex * blockSize);
  return image;
}

export const SCHEDULE: Schedule = {
  timing: { kind: 'at', minutes: [150] },
  ...{ parallel: 2, waitMs: 60_000, agents: ['web'], setAt: '2026-02-03T04:05:06.000Z' },
};
export const LAST_ROUND: LastRound = {
  ...{ startedAt: '2026-02-04T02:30:00.000Z', endedAt: '2026-02-04T02:31:00.000Z', summary: null },
};
export const ADDRESS = { host: 'web.example', port: 8441 };
export const KEPT_SESSION: KeptSession = {
  ...{ sessionId: '5'.repeat(32), instant: '2026-02-03T04:05:06.000Z', kind: 'idle', provider: 'offline' },
  ...{ sizeBytes: geometry.sizeBytes, blockSize: BLOCK, continuity: 'a mark', lastPointId: null },
};

const SESSIONS = ['6'.repeat(32), '7'.repeat(32), '8'.repeat(32)] as const;

/** Every message once, at least; the same bytes each time but for the agent's clock. */
export async function converse(
  client: ReceiverPort,
  encodeQuestion: (pointId: string, nodes: { level: number; index: number; content: Buffer }[]) => Buffer,
  batch: typeof makeBatch,
): Promise<void> {
  await client.info();
  const identity = describe('disk', first, null).identity;
  const begin = (sessionId: string, last: { id: string; root: string } | null) =>
    client.begin({
      base: last && { id: last.id, root: last.root },
      ...{ device: 'disk', identity, geometry, sessionId },
      ...{ acceptIdentity: false, newChain: false },
    });
  const [one, two, gone] = SESSIONS;
  await begin(one, null);
  await client.have(one, PLAIN.leafDigest(stampedBlock(1, BLOCK)));
  await client.batch(one, 1, batch(one, 1, changesBetween(null, first)));
  await client.status(one);
  const point = await client.commit(one, commitRequest(first, 1));
  await begin(two, point);
  await client.pieces(two, [5]);
  await client.batch(two, 1, batch(two, 1, changesBetween(first, second)));
  const last = await client.commit(two, commitRequest(second, 1));
  await begin(gone, last);
  await client.partialSets('disk');
  await client.abort(gone);
  await client.points();
  await client.removedPoint('disk', 1);
  await client.damage('disk');
  await client.points('disk', { last: true });
  await client.nodes(last.id, [{ level: 1, index: 0 }]);
  await client.compareNodes(
    encodeQuestion(last.id, [{ level: 1, index: 0, content: PLAIN.leafDigest(stampedBlock(1, BLOCK)) }]),
  );
  await client.blocks(last.id, [0, 5]);
  for (const events of [client.verify(), client.check(last.id, [[0, 6]]), client.diff(point.id, last.id)]) {
    for await (const _ of events);
  }
  await client.awaitOrder({ devices: ['disk'], running: [], ordersMax: 1, waitMs: 0 });
  await client.reportOrder('9'.repeat(32), {
    state: 'failed',
    error: { code: 'cancelled', thing: 'disk', reason: 'it was cancelled', permanent: true },
  });
}
