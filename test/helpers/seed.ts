/**
 * Random choices that can be made again: every random test prints its seed, and takes one
 * from STILLPOINT_TEST_SEED.
 */
import { randomInt } from 'node:crypto';
import type { ExecutionContext } from 'ava';

/** `scripts/test-long` sets it: loops go over everything instead of a sample. */
export const LONG = process.env.STILLPOINT_TEST_LONG === '1';

export interface Random {
  readonly seed: number;
  /** From 0 to below - 1. */
  below(below: number): number;
  pick<Item>(items: readonly Item[]): Item;
  /** Up to `count` of them, in their order. */
  sample<Item>(items: readonly Item[], count: number): Item[];
}

export function seededRandom(t: ExecutionContext): Random {
  const given = process.env.STILLPOINT_TEST_SEED;
  const seed = given === undefined ? randomInt(2 ** 31) : Number(given);
  t.log(`seed ${seed}: STILLPOINT_TEST_SEED=${seed} repeats this run`);
  let state = seed >>> 0;
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number) => Math.floor(next() * bound);
  return {
    seed,
    below,
    pick: (items) => {
      const item = items[below(items.length)];
      if (item === undefined) throw new Error('nothing to pick from');
      return item;
    },
    sample: (items, count) => {
      let wanted = Math.min(count, items.length);
      return items.filter((_, index) => {
        const chosen = below(items.length - index) < wanted;
        if (chosen) wanted -= 1;
        return chosen;
      });
    },
  };
}

/** Numbers from 0 to below 1, the same for the same seed: for choices that no test is about. */
export function plainRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
