/**
 * A group over several hosts whose agents, receiver and links die, stop and slow down, at random and in each
 * phase of its run: what is listed is whole group points, and each is of one moment of the program that
 * writes to all devices in turn. That program goes on, whatever dies.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { EXIT_OK, EXIT_WARNINGS } from '../../src/cli/output/exit-codes.js';
import { holdIn, PHASES } from '../helpers/groups/hold-phase.js';
import { type GroupCommand, type HostPlan, HostsScene } from '../helpers/groups/hosts-scene.js';
import { whyNoHostNetwork } from '../helpers/machines/host-network.js';
import type { Outcome } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';
import { LONG, type Random, seededRandom } from '../helpers/seed.js';

const PLAN: HostPlan = [
  { agent: 'db1', devices: ['data', 'wal'] },
  { agent: 'db2', devices: ['log'] },
  ...(LONG ? [{ agent: 'db3', devices: ['queue'] }] : []),
];
const FAULTS = ['agent', 'receiver', 'link', 'asleep'] as const;
const MORE_FAULTS = [...FAULTS, 'agent and receiver', 'receiver asleep', 'slow link', 'tap asleep'] as const;
/** Longer than a gate stays closed. */
const ASLEEP_MS = 11_000;
const DOWN_MS_MAX = 3_000;
/** An operator has no more patience than that. */
const PATIENCE_MS = 90_000;
/** A gate opens after 10 s. The rest is what a machine may do to a process that has to run for that. */
const STALL_MS_MAX = 30_000;

type Fault = (typeof MORE_FAULTS)[number];
type Host = HostsScene['hosts'][number];

interface Trouble {
  /** Undefined: at a random moment. */
  readonly phase?: (typeof PHASES)[number] | undefined;
  /** Undefined: none. */
  readonly fault?: Fault | undefined;
  readonly forMs: number;
  readonly missing: 'fail' | 'leave-out';
}

/** Rounds by what was done to them. */
class Tally {
  readonly #kinds = new Map<string, { rounds: number; points: number; longestMs: number }>();
  readonly #ends = new Map<string, number>();
  rounds = 0;
  points = 0;

  add(kind: string, end: string, made: number, stallMs: number): void {
    const known = this.#kinds.get(kind) ?? { rounds: 0, points: 0, longestMs: 0 };
    const longestMs = Math.max(known.longestMs, Math.round(stallMs));
    this.#kinds.set(kind, { rounds: known.rounds + 1, points: known.points + made, longestMs });
    this.#ends.set(end, (this.#ends.get(end) ?? 0) + 1);
    this.rounds += 1;
    this.points += made;
  }

  get lines(): string[] {
    const kinds = [...this.#kinds].map(
      ([kind, { rounds, points, longestMs }]) =>
        `${kind}: ${rounds} rounds, ${points} group points, the longest stall is ${longestMs} ms`,
    );
    const ends = [...this.#ends].map(([end, count]) => `${count} × ${end}`);
    return [`${this.rounds} rounds, ${this.points} group points`, ...kinds.sort(), ...ends.sort()];
  }
}

class Rounds {
  readonly tally = new Tally();
  readonly #t: ExecutionContext;
  readonly #scene: HostsScene;
  readonly #random: Random;

  constructor(t: ExecutionContext, scene: HostsScene, random: Random) {
    this.#t = t;
    this.#scene = scene;
    this.#random = random;
  }

  async run(trouble: Trouble): Promise<void> {
    const { phase, fault, missing } = trouble;
    const scene = this.#scene;
    await scene.set(missing);
    scene.ring.takeLongestMs();
    const from = scene.ring.answered;
    const kind = `${phase ?? 'any'}, ${fault ?? 'nothing'}`;
    const command = await (phase === undefined ? this.#atRandom(trouble) : this.#inPhase(phase, trouble));
    const outcome = await command.within(PATIENCE_MS);
    await scene.calm();
    await scene.startWhatWasKilled();
    await scene.ring.further();
    const stallMs = scene.ring.takeLongestMs();
    const what = `round ${this.tally.rounds + 1}: ${kind}, ${missing}`;
    const told = outcome?.stderr ?? 'given up';
    this.#t.true(stallMs < STALL_MS_MAX, `${what}: a write waited for ${stallMs} ms: ${told}`);
    const made = await scene.check(what);
    const isDone = outcome !== null && [EXIT_OK, EXIT_WARNINGS].includes(outcome.code ?? -1);
    if (isDone) {
      this.#t.true(made.length > 0, `${what}: no group point has come`);
      // The last number may be of a device that was left out.
      const isNew = Math.max(...made) > from - PLAN.length * 2;
      this.#t.true(isNew, `${what}: the group point is older than its backup`);
    }
    this.tally.add(kind, endOf(outcome), made.length, stallMs);
  }

  /** Nothing is wrong any more: sooner or later there is a group point of all. */
  async untilWhole(): Promise<void> {
    const before = this.tally.points;
    for (let tries = 0; tries < 20 && this.tally.points === before; tries += 1)
      await this.run({ missing: 'fail', forMs: 0 });
    this.#t.true(this.tally.points > before, 'there is no group point without trouble');
  }

  async #atRandom({ fault, forMs }: Trouble): Promise<GroupCommand> {
    const command = this.#scene.begin();
    if (fault === undefined) return command;
    await sleep(300 + this.#random.below(2_500));
    await this.#strike(this.#random.pick(this.#scene.hosts), fault);
    await sleep(forMs);
    await this.#scene.calm();
    await this.#scene.startWhatWasKilled();
    return command;
  }

  async #inPhase(phase: (typeof PHASES)[number], { fault, forMs }: Trouble): Promise<GroupCommand> {
    for (;;) {
      const victim = this.#random.pick(this.#scene.hosts);
      const { command, isReached, release } = await holdIn(this.#scene, phase, victim);
      if (isReached) {
        if (fault !== undefined) await this.#strike(victim, fault);
        await release();
        await sleep(forMs);
      }
      await this.#scene.calm();
      await this.#scene.startWhatWasKilled();
      if (isReached) return command;
      // The one before has not ended everywhere, or an agent was not there.
      await command.within(PATIENCE_MS);
    }
  }

  async #strike(victim: Host, fault: Fault): Promise<void> {
    const scene = this.#scene;
    const at = scene.hosts.indexOf(victim);
    if (fault.startsWith('agent')) await scene.killAgent(victim);
    if (fault === 'receiver' || fault === 'agent and receiver') await scene.killReceiver();
    if (fault === 'link') scene.network.down(at);
    if (fault === 'slow link') scene.network.slow(at, '200kbit');
    if (fault === 'asleep') scene.signalAgent(victim, 'SIGSTOP');
    if (fault === 'receiver asleep') scene.signalReceiver('SIGSTOP');
    if (fault === 'tap asleep') scene.signalTaps(victim, 'SIGSTOP');
  }
}

function endOf(outcome: Outcome | null): string {
  if (outcome === null) return 'given up';
  const [line = ''] = outcome.stderr.split('\n').filter((each) => each.startsWith('error: '));
  return outcome.code === EXIT_OK ? 'done' : `exit code ${outcome.code}: ${line}`;
}

function durationOf(fault: Fault | undefined, { below }: Random): number {
  if (fault === 'asleep') return ASLEEP_MS;
  if (fault === 'receiver asleep') return LONG ? below(15_000) : below(DOWN_MS_MAX);
  return 200 + below(DOWN_MS_MAX);
}

function troublesOf(random: Random): Trouble[] {
  const missing = () => random.pick(['fail', 'leave-out'] as const);
  const all = PHASES.flatMap((phase) => [undefined, ...FAULTS].map((fault) => ({ phase, fault })));
  const few = PHASES.map((phase) => ({ phase, fault: random.pick(['agent', 'receiver', 'link'] as const) }));
  const aimed = LONG ? Array.from({ length: 10 }, () => all).flat() : [...few, ...WORST];
  const others = Array.from({ length: LONG ? 250 : 2 }, () => ({ fault: random.pick(MORE_FAULTS) }));
  const troubles: Pick<Trouble, 'phase' | 'fault'>[] = [...aimed, ...others];
  return troubles.map((trouble) => {
    const { fault } = trouble;
    return { ...trouble, missing: missing(), forMs: durationOf(fault, random) };
  });
}

/** One is closed much later than the others, or sleeps for longer than its gates stay closed. */
const WORST = [{ phase: 'closing' }, { phase: 'closing', fault: 'asleep' }] as const;

testWith(
  ['root', { missing: whyNoHostNetwork() }],
  'agents, receiver and links of a group die in each phase: its points are whole, and of one moment',
  async (t) => {
    t.timeout(4 * 60 * 60_000);
    const random = seededRandom(t);
    const scene = await HostsScene.make(t, PLAN);
    const rounds = new Rounds(t, scene, random);
    await rounds.untilWhole();
    for (const trouble of troublesOf(random)) await rounds.run(trouble);
    await rounds.untilWhole();
    for (const line of rounds.tally.lines) t.log(line);
    t.log(`${scene.ring.answered} writes`);
  },
);
