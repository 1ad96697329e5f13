import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BATCH_BYTES_MAX, KiB, RECEIVER_BODY_BYTES_MAX } from '../../../src/domain/base/limits.js';
import { RETRY_DEFAULT, retryingPort } from '../../../src/protocol/retry.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { beginRequest, commitRequest, sessionId } from '../../helpers/bytes/requests.js';
import { FaultyStore } from '../../helpers/faults/store.js';
import { rootOf } from '../../helpers/worlds/store-device.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const AGENTS = 4;
const BATCHES = 6;
const BODIES_MAX = RECEIVER_BODY_BYTES_MAX / BATCH_BYTES_MAX;
/** As much as goes into one batch; not one block more would. */
const geometry = { sizeBytes: 255 * 64 * KiB, blockSize: 64 * KiB };
const items = Array.from({ length: 255 }, (_, blockIndex) => ({ blockIndex, bytes: randomBytes(64 * KiB) }));
const root = rootOf({ geometry, blocks: new Map(items.map(({ blockIndex, bytes }) => [blockIndex, bytes])) });

test('several agents that send all they can are all served, within the memory for bodies', async (t) => {
  const store = new FaultyStore();
  const receiver = await makeTlsReceiver(t, {
    openStore: async () => store,
    timeouts: { admissionMs: 120_000, idleMs: 120_000 },
  });
  let held = 0;
  let peak = 0;
  store.before = async (call) => {
    if (call !== 'append') return;
    held += 1;
    peak = Math.max(peak, held);
    // Until memory is full; then a moment longer, for one too many to show itself.
    for (let i = 0; i < 600 && peak < BODIES_MAX; i += 1) await sleep(100);
    await sleep(100);
    held -= 1;
  };
  await Promise.all(
    Array.from({ length: AGENTS }, async (_, i) => {
      const client = receiver.client(await receiver.enroll(`host-${i}`), BATCHES);
      // As an agent does, should the machine be so slow that a transfer is taken for a trickle.
      const port = retryingPort(client, { ...RETRY_DEFAULT, patienceMs: 300_000 });
      const id = sessionId(i);
      await port.begin(beginRequest({ sessionId: id, geometry }));
      await Promise.all(
        Array.from({ length: BATCHES }, (_, n) => port.batch(id, n + 1, makeBatch(id, n + 1, items, 0))),
      );
      const point = await port.commit(id, commitRequest({ batchCount: BATCHES, root }));
      t.is(point.agent, `host-${i}`);
    }),
  );
  t.true(AGENTS * BATCHES > BODIES_MAX);
  t.is(
    peak,
    BODIES_MAX,
    'more: memory is not bounded; fewer: an agent that has its share shuts out the others',
  );
  t.is((await store.points({})).length, AGENTS);
});
