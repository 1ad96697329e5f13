import test from 'ava';
import { BATCH_BYTES_MAX, RECEIVER_BODY_BYTES_MAX } from '../../src/domain/limits.js';
import { MemoryStore } from '../helpers/memory-store.js';
import { beginRequest, commitRequest, sessionId } from '../helpers/requests.js';
import { makeTlsReceiver } from '../helpers/tls-receiver.js';

const AGENTS = 4;
const BATCHES = 6;
const BODIES_MAX = RECEIVER_BODY_BYTES_MAX / BATCH_BYTES_MAX;

test('several agents that send all they can are all served, within the memory for bodies', async (t) => {
  const store = new MemoryStore();
  const receiver = await makeTlsReceiver(t, { openStore: async () => store });
  let held = 0;
  let peak = 0;
  store.before = async (call) => {
    if (call !== 'append') return;
    held += 1;
    peak = Math.max(peak, held);
    await new Promise((resolve) => setTimeout(resolve, 200));
    held -= 1;
  };
  const body = Buffer.alloc(BATCH_BYTES_MAX, 1);
  await Promise.all(
    Array.from({ length: AGENTS }, async (_, i) => {
      const port = receiver.client(await receiver.enroll(`host-${i}`), BATCHES);
      const id = sessionId(i);
      await port.begin(beginRequest({ sessionId: id }));
      await Promise.all(Array.from({ length: BATCHES }, (_, n) => port.batch(id, n + 1, body)));
      const point = await port.commit(id, commitRequest({ batchCount: BATCHES }));
      t.is(point.agent, `host-${i}`);
    }),
  );
  t.true(AGENTS * BATCHES > BODIES_MAX);
  t.true(peak <= BODIES_MAX, `${peak} bodies were held at once`);
  t.true(peak > BODIES_MAX / 2, `only ${peak} bodies were held at once: one agent shut out the others`);
  t.is(store.committed.length, AGENTS);
});
