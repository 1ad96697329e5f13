/**
 * A run of a group with simulated hosts, links and clocks, for its model test. The receiver's end is as thin
 * as it can be: each question is answered when there is a command, or after its time.
 */
import { isDeepStrictEqual } from 'node:util';
import { commandFor } from '../../../src/domain/group/commands.js';
import {
  advanceRun,
  isOver,
  newRun,
  RUN_LIMITS,
  type Run,
  type RunEvent,
} from '../../../src/domain/group/run.js';
import type { GroupCommand, GroupReport } from '../../../src/domain/group/steps.js';
import type { Random } from '../seed.js';

/** In percent. */
export interface Chances {
  readonly loss: number;
  readonly double: number;
  readonly late: number;
  /** Of a host, at each of its steps. */
  readonly death: number;
  /** Of a step to take longer than it may. */
  readonly slow: number;
  readonly fault: number;
}

export interface RunWorldOptions {
  readonly hosts: number;
  readonly missing: 'fail' | 'leave-out';
  readonly chances: Chances;
}

interface Host {
  readonly agent: string;
  report: GroupReport;
  /** Counts its questions: an answer to a former one is not heard. */
  asked: number;
  /** What it does now; a later one takes its place. */
  doing: number;
  /** As it was told before. */
  closedMs: number;
  /** When its gates closed, and until when they stay so by themselves. */
  gate: { readonly closedAt: number; readonly openAt: number } | null;
  cut: { readonly closedAt: number; readonly cutAt: number } | null;
  isDead: boolean;
  hasEnded: boolean;
}

interface Question {
  readonly number: number;
  readonly report: GroupReport;
  readonly untilMs: number;
}

const WAIT_MS = 20_000;
/** Over what an answer may take. */
const GRACE_MS = 5_000;
const TICK_MS = 1_000;
const FAILURE = { code: 'device-io', thing: 'disk', reason: 'it broke', permanent: true } as const;

export class RunWorld {
  /** What was told, for a run that fails. */
  readonly story: unknown[] = [];
  /** What a report of another try has changed; null: nothing, ever. */
  counted: unknown = null;
  readonly #random: Random;
  readonly #chances: Chances;
  readonly #hosts: Host[];
  readonly #questions = new Map<string, Question>();
  readonly #committing = new Set<string>();
  readonly #queue: { readonly at: number; readonly run: () => void }[] = [];
  #run: Run;
  #now = 0;

  constructor(random: Random, { hosts, missing, chances }: RunWorldOptions) {
    this.#random = random;
    this.#chances = chances;
    this.#hosts = Array.from({ length: hosts }, (_, at): Host => {
      const report: GroupReport = { state: 'preparing' };
      return {
        agent: `host${at}`,
        report,
        asked: 0,
        doing: 0,
        closedMs: 0,
        gate: null,
        cut: null,
        isDead: false,
        hasEnded: false,
      };
    });
    const members = this.#hosts.map(({ agent }) => ({ agent, devices: ['data', 'wal'] }));
    const limits = RUN_LIMITS;
    this.#run = newRun({ id: 'f'.repeat(32), name: 'db', hosts: members, missing, limits }, 0);
  }

  cutOf(agent: string): Host['cut'] {
    return this.#hosts.find((host) => host.agent === agent)?.cut ?? null;
  }

  play(untilMs: number): Run {
    for (const host of this.#hosts) {
      this.#ask(host);
      this.#does(host, this.#random.pick([10, 3000, 1_000_000]), () =>
        this.#says(host, { state: 'ready', try: 1 }),
      );
    }
    this.#in(TICK_MS, () => this.#tick());
    while (!isOver(this.#run) && this.#now < untilMs) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      this.#now = next.at;
      next.run();
    }
    return this.#run;
  }

  #in(ms: number, run: () => void): void {
    const at = this.#now + ms;
    let place = this.#queue.length;
    while (place > 0 && (this.#queue[place - 1]?.at ?? 0) > at) place -= 1;
    this.#queue.splice(place, 0, { at, run });
  }

  #happens(percent: number): boolean {
    return percent > 0 && this.#random.below(100) < percent;
  }

  #tick(): void {
    this.#apply({ type: 'tick', nowMs: this.#now });
    for (const [agent, { untilMs }] of this.#questions)
      if (this.#now >= untilMs) this.#answer(agent, { do: 'wait' });
    this.#in(TICK_MS, () => this.#tick());
  }

  #apply(event: RunEvent): void {
    const before = this.#run;
    this.#run = advanceRun(before, event);
    if (event.type === 'report') this.#checkTry(before, event);
    if (this.#run.phase !== before.phase || this.#run.try !== before.try)
      this.story.push([this.#now, this.#run.phase, this.#run.try]);
    for (const [agent, { report }] of this.#questions) {
      const command = commandFor(this.#run, agent, report);
      if (command !== null) this.#answer(agent, command);
    }
  }

  /** What is said of another try changes no more than a host that says nothing new. */
  #checkTry(before: Run, event: Extract<RunEvent, { type: 'report' }>): void {
    const { report } = event;
    if (before.phase === 'gathering' || !('try' in report) || report.try === before.try) return;
    const unmoved = advanceRun(before, { ...event, report: { state: 'preparing' } });
    if (!isDeepStrictEqual(this.#run, unmoved)) this.counted ??= [this.#now, event.agent, report];
  }

  #answer(agent: string, command: GroupCommand): void {
    const question = this.#questions.get(agent);
    this.#questions.delete(agent);
    const host = this.#hosts.find((each) => each.agent === agent);
    if (question === undefined || host === undefined) return;
    this.#carry(() => this.#hears(host, question.number, command));
  }

  /** Over the link. */
  #carry(arrive: () => void): void {
    if (this.#happens(this.#chances.loss)) return;
    const delay = () =>
      this.#happens(this.#chances.late) ? this.#random.below(30_000) : 1 + this.#random.below(40);
    this.#in(delay(), arrive);
    if (this.#happens(this.#chances.double)) this.#in(delay(), arrive);
  }

  #ask(host: Host): void {
    if (host.isDead || host.hasEnded) return;
    host.asked += 1;
    const { agent, report, asked: number } = host;
    this.#carry(() => {
      const waitMs = report.state === 'missed' ? 0 : WAIT_MS;
      this.#questions.set(agent, { number, report, untilMs: this.#now + waitMs });
      this.#apply({ type: 'report', agent, report, nowMs: this.#now });
    });
    this.#in(WAIT_MS + GRACE_MS, () => {
      if (host.asked === number) this.#ask(host);
    });
  }

  #says(host: Host, report: GroupReport): void {
    this.story.push([this.#now, host.agent, report.state, 'try' in report ? report.try : '']);
    host.report = report;
    if (report.state === 'failed') {
      this.#ask(host);
      host.hasEnded = true;
      this.#orderEnds(host);
      return;
    }
    this.#ask(host);
  }

  /** Its order says so too, in the end. */
  #orderEnds({ agent }: Host): void {
    this.#in(180_000, () => this.#apply({ type: 'gone', agent, failure: FAILURE, nowMs: this.#now }));
  }

  /** Something that takes time, unless it dies or fails. */
  #does(host: Host, ms: number, then: () => void): void {
    host.doing += 1;
    const { doing } = host;
    this.#in(1 + this.#random.below(ms), () => {
      if (host.isDead || host.hasEnded || host.doing !== doing) return;
      if (this.#happens(this.#chances.death)) {
        host.isDead = true;
        this.#orderEnds(host);
      } else if (this.#happens(this.#chances.fault)) this.#says(host, { state: 'failed', error: FAILURE });
      else then();
    });
  }

  #hears(host: Host, number: number, command: GroupCommand): void {
    if (host.isDead || host.hasEnded || number !== host.asked) return;
    if (host.report.state === 'missed' && command.do !== 'abandon') {
      this.#prepareAnew(host, host.report.try);
      return;
    }
    switch (command.do) {
      case 'wait':
        this.#ask(host);
        break;
      case 'rest':
        host.closedMs = command.closedMs;
        this.#rest(host, command.try, command.restMs);
        break;
      case 'close':
        this.#close(host, command.try, host.closedMs);
        break;
      case 'cut':
        this.#cut(host, command.try);
        break;
      case 'open':
        host.gate = null;
        this.#prepareAnew(host, command.try);
        break;
      case 'commit':
        this.#commit(host);
        break;
      case 'abandon':
        host.hasEnded = true;
    }
  }

  #rest(host: Host, of: number, restMs: number): void {
    const isSlow = this.#happens(this.#chances.slow);
    const fromMs = this.#now;
    host.asked += 1;
    this.#does(host, isSlow ? 300_000 : 2_000, () => {
      this.#says(host, { state: 'rested', try: of });
      this.#in(Math.max(0, fromMs + restMs - this.#now), () => {
        const { report } = host;
        if (report.state !== 'rested' || report.try !== of || host.isDead || host.hasEnded) return;
        host.doing += 1;
        this.#says(host, { state: 'missed', try: of, again: true, error: FAILURE });
      });
    });
  }

  /** Members that were closed are prepared again, which may take as long as the first time. */
  #prepareAnew(host: Host, of: number): void {
    this.#says(host, { state: 'preparing' });
    this.#does(host, this.#random.pick([10, 10, 300_000]), () =>
      this.#says(host, { state: 'ready', try: of + 1 }),
    );
  }

  #close(host: Host, of: number, closedMs: number): void {
    const isSlow = this.#happens(this.#chances.slow);
    host.asked += 1;
    this.#does(host, isSlow ? 60_000 : 300, () => {
      const gate = { closedAt: this.#now, openAt: this.#now + closedMs };
      host.gate = gate;
      this.#says(host, { state: 'closed', try: of });
      this.#in(closedMs, () => {
        if (host.gate !== gate || host.isDead || host.hasEnded) return;
        host.gate = null;
        host.doing += 1;
        this.#says(host, { state: 'missed', try: of, again: true, error: FAILURE });
      });
    });
  }

  #cut(host: Host, of: number): void {
    const isSlow = this.#happens(this.#chances.slow);
    host.asked += 1;
    this.#does(host, isSlow ? 15_000 : 50, () => {
      const { gate } = host;
      // Then it has said so.
      if (gate === null || this.#now >= gate.openAt) return;
      host.gate = null;
      host.cut = { closedAt: gate.closedAt, cutAt: this.#now };
      this.#says(host, { state: 'cut', try: of, stalls: [] });
      this.#does(host, this.#random.pick([10, 400_000]), () =>
        this.#says(host, {
          state: 'transferred',
          kind: 'crash',
          sessionIds: ['1'.repeat(32), '2'.repeat(32)],
        }),
      );
    });
  }

  #commit(host: Host): void {
    this.#committing.add(host.agent);
    const isAll = this.#run.hosts.every(({ state, agent }) => state === 'out' || this.#committing.has(agent));
    if (!isAll) {
      // Its commit takes the place of its questions, and the receiver gives up by itself.
      this.#in(600_000, () => this.#apply({ type: 'failed', failure: FAILURE }));
      return;
    }
    this.#apply({ type: 'deciding' });
    this.#in(5, () => this.#apply({ type: 'committed' }));
  }
}
