/**
 * Hosts with gates that open by themselves, and links that lose, double and delay what is said: whatever is
 * committed is of one moment.
 */
import test from 'ava';
import { leftOut, RUN_LIMITS, takingPart } from '../../../src/domain/group/run.js';
import { type Chances, RunWorld } from '../../helpers/groups/run-world.js';
import { LONG, seededRandom } from '../../helpers/seed.js';

const RUNS = LONG ? 1_000_000 : 4000;
const HOURS = 4 * 60 * 60_000;
const NOTHING: Chances = { loss: 0, double: 0, late: 0, death: 0, slow: 0, fault: 0 };

test('whatever is committed was closed and uncut everywhere at one moment, and nobody is missing silently', (t) => {
  const random = seededRandom(t);
  const ends = new Map<string, number>();
  for (let at = 0; at < RUNS; at += 1) {
    const chance = () => random.pick([0, 0, 2, 10, 30]);
    const world = new RunWorld(random, {
      hosts: 1 + random.below(4),
      missing: random.pick(['fail', 'leave-out']),
      chances: { ...NOTHING, loss: chance(), double: chance(), late: chance(), ...troubles() },
    });
    const run = world.play(HOURS);
    const what = `run ${at}, seed ${random.seed}: ${JSON.stringify(world.story)}`;
    if (world.counted !== null)
      return t.fail(`${JSON.stringify(world.counted)} has counted in a later try: ${what}`);
    const taking = takingPart(run);
    ends.set(`${run.phase} ${taking.length}/${run.hosts.length}`, at);
    if (run.phase !== 'done' && run.phase !== 'failed') return t.fail(`it does not end: ${what}`);
    if (run.phase === 'failed') continue;
    const cuts = taking.map(({ agent }) => world.cutOf(agent));
    const lastClosed = Math.max(...cuts.map((cut) => cut?.closedAt ?? Infinity));
    const firstCut = Math.min(...cuts.map((cut) => cut?.cutAt ?? -Infinity));
    if (lastClosed > firstCut) return t.fail(`it is not of one moment: ${what}`);
    const isWhole = run.settings.missing === 'leave-out' || taking.length === run.hosts.length;
    if (!isWhole || leftOut(run).length !== (run.hosts.length - taking.length) * 2)
      return t.fail(`somebody is missing: ${what}`);
  }
  t.true(ends.size > 8, [...ends.keys()].join(', '));

  function troubles(): Partial<Chances> {
    return { death: random.pick([0, 0, 1]), slow: random.pick([0, 10, 40]), fault: random.pick([0, 0, 5]) };
  }
});

test('without trouble there is a group point at the first try', (t) => {
  const random = seededRandom(t);
  for (let at = 0; at < 200; at += 1) {
    const world = new RunWorld(random, { hosts: 1 + (at % 4), missing: 'fail', chances: NOTHING });
    const run = world.play(HOURS);
    if (run.phase !== 'done' || run.try !== 1) return t.fail(`${run.phase} ${run.try}, seed ${random.seed}`);
  }
  t.pass();
});

test('a few lost messages take no group point away', (t) => {
  const random = seededRandom(t);
  let done = 0;
  for (let at = 0; at < 200; at += 1) {
    const chances = { ...NOTHING, loss: 3, double: 3 };
    const run = new RunWorld(random, { hosts: 3, missing: 'fail', chances }).play(HOURS);
    if (run.phase === 'done') done += 1;
  }
  t.true(done > 150, `${done} of 200`);
  t.is(RUN_LIMITS.triesMax, 3);
});
