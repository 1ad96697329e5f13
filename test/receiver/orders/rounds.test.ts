/** What a round makes of its groups, with agents that only ask for orders. */
import test, { type ExecutionContext } from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import { itemName } from '../../../src/domain/order/round.js';
import { planRound } from '../../../src/domain/order/round-choice.js';
import { OrderBook } from '../../../src/receiver/orders/orders.js';
import { type BackUpGroup, type RoundGroupWish, runRound } from '../../../src/receiver/orders/rounds.js';

const DB: ReceiverGroup = {
  ...{ name: 'db', missing: 'leave-out' },
  members: [
    { agent: 'a', device: 'data' },
    { agent: 'b', device: 'log' },
  ],
};
const WAIT_MS = 20;

/** @param present agents that ask */
async function run(t: ExecutionContext, present: readonly string[], backUp: BackUpGroup) {
  const orders = new OrderBook();
  t.teardown(() => orders.close());
  for (const agent of present)
    void orders.await(agent, { devices: ['data', 'log'], running: [], ordersMax: 1, waitMs: 10_000 });
  const wishes: RoundGroupWish[] = [];
  const told: string[] = [];
  const summary = await runRound({
    ...{
      by: 'operator' as const,
      orders,
      parallel: 1,
      waitMs: WAIT_MS,
      signal: new AbortController().signal,
    },
    plan: planRound({ agents: null, groups: ['db', 'old'] }, { agents: present, groups: [DB] }),
    backUpGroup: async (wish) => {
      wishes.push(wish);
      return backUp(wish);
    },
    onItem: (item) => told.push(`${itemName(item)} ${item.state}`),
    whyAbsent: () => 'it is away',
    nowMs: Date.now,
  });
  return { wishes, told, summary };
}

const done: BackUpGroup = async () => ({ state: 'done', point: 'db@1', warningCount: 1, wireBytes: 7 });

test('agents that did not come are not waited for once more; each item is told', async (t) => {
  const all = await run(t, ['a', 'b'], done);
  t.like(all.wishes, [{ group: DB, by: 'operator', waitMs: WAIT_MS }]);
  t.deepEqual(all.told, ['group old skipped', 'group db running', 'group db done']);
  t.like(all.summary, { done: 1, skipped: 1, withWarnings: 1, wireBytes: 7 });
  t.like((await run(t, ['a'], done)).wishes, [{ group: DB, waitMs: 0 }]);
  t.deepEqual((await run(t, [], done)).wishes, []);
});

test('a group whose agent went away is skipped; one that broke has failed, with the reason', async (t) => {
  const fails =
    (code: 'unreachable' | 'device-io', thing: string): BackUpGroup =>
    async () => {
      throw new StillpointError(code, { thing, reason: 'agent b: it is not there' });
    };
  const ended = async (work: BackUpGroup) => {
    const { items } = (await run(t, ['a', 'b'], work)).summary;
    return items.find(({ group }) => group === 'db');
  };
  t.like(await ended(fails('unreachable', 'group db')), {
    state: 'skipped',
    reason: 'agent b: it is not there',
  });
  t.like(await ended(fails('device-io', 'group db')), {
    ...{ state: 'failed', reason: 'group db: agent b: it is not there' },
  });
});
