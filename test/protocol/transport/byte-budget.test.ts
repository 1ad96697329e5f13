import test from 'ava';
import { ByteBudget } from '../../../src/protocol/transport/byte-budget.js';

const LONG_MS = 10_000;

/** Records the order of admissions. */
function waiters(budget: ByteBudget) {
  const admitted: string[] = [];
  const acquire = (name: string, bytes: number) =>
    budget.acquire(name.charAt(0), bytes, LONG_MS).then((release) => {
      admitted.push(name);
      return release;
    });
  return { admitted, acquire };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('never more than the budget is held, and all is given back', async (t) => {
  const budget = new ByteBudget(100, 1000);
  let held = 0;
  let peak = 0;
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const bytes = 1 + ((i * 37) % 50);
      const release = await budget.acquire(`agent ${i % 5}`, bytes, LONG_MS);
      held += bytes;
      peak = Math.max(peak, held);
      await turn();
      held -= bytes;
      release();
      release();
    }),
  );
  t.true(peak <= 100);
  t.true(peak > 50);
  t.is(budget.usedBytes, 0);
});

test('one owner never has more than half, and does not shut out another', async (t) => {
  const budget = new ByteBudget(100, 1000);
  const { admitted, acquire } = waiters(budget);
  const first = await acquire('a1', 50);
  const second = acquire('a2', 10);
  await turn();
  t.deepEqual(admitted, ['a1']);
  await acquire('b1', 50);
  t.deepEqual(admitted, ['a1', 'b1']);
  first();
  await second;
  t.deepEqual(admitted, ['a1', 'b1', 'a2']);
});

test('owners take turns, however many requests one of them queues', async (t) => {
  const budget = new ByteBudget(100, 1000);
  const { admitted, acquire } = waiters(budget);
  const release = await acquire('x1', 50);
  await acquire('y1', 50);
  const queued = ['a1', 'a2', 'a3', 'b1', 'c1'].map((name) => acquire(name, 50).then((done) => done()));
  release();
  await Promise.all(queued);
  t.deepEqual(admitted.slice(2), ['a1', 'b1', 'c1', 'a2', 'a3']);
});

test('a large request is not starved by small ones', async (t) => {
  const budget = new ByteBudget(100, 1000);
  const { admitted, acquire } = waiters(budget);
  const [one, two] = [await acquire('x1', 40), await acquire('y1', 40)];
  const large = acquire('a1', 50);
  const small = acquire('b1', 10);
  await turn();
  t.deepEqual(admitted, ['x1', 'y1']);
  one();
  await large;
  await small;
  t.deepEqual(admitted, ['x1', 'y1', 'a1', 'b1']);
  two();
});

test('a wait ends busy at its deadline, and those behind go on', async (t) => {
  const budget = new ByteBudget(100, 1000);
  const release = await budget.acquire('x', 50, LONG_MS);
  await budget.acquire('y', 30, LONG_MS);
  const late = budget.acquire('a', 50, 20);
  const behind = budget.acquire('b', 20, LONG_MS);
  await t.throwsAsync(late, { code: 'busy' });
  await t.notThrowsAsync(behind);
  release();
  t.is(budget.usedBytes, 50);
});

test('an owner with many that wait makes place for another', async (t) => {
  const budget = new ByteBudget(100, 3);
  const { admitted, acquire } = waiters(budget);
  const [one, two] = [await acquire('x1', 50), await acquire('y1', 50)];
  const queued = ['a1', 'a2', 'a3'].map((name) => acquire(name, 50).then((release) => release()));
  const other = acquire('b1', 50).then((release) => release());
  await t.throwsAsync(queued[2] as Promise<void>, { code: 'busy' });
  await t.throwsAsync(acquire('a4', 50), { code: 'busy' }, 'it has most of them itself');
  one();
  two();
  await Promise.all([...queued.slice(0, 2), other]);
  t.deepEqual(admitted, ['x1', 'y1', 'a1', 'b1', 'a2']);
});

test('no more than so many wait', async (t) => {
  const budget = new ByteBudget(100, 1);
  await budget.acquire('x', 50, LONG_MS);
  const waiting = budget.acquire('x', 50, 50);
  await t.throwsAsync(budget.acquire('x', 50, LONG_MS), { code: 'busy' });
  await t.throwsAsync(waiting, { code: 'busy' });
});
