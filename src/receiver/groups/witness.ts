/**
 * What is seen of backups of groups over several hosts: lines of the log, entries of the audit log, counters,
 * what goes on now, and how the last one ended (src/receiver/orders/last-group-run.ts). None of that can fail
 * a backup.
 */
import type { Logger } from 'pino';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { Run, RunEvent, RunHost } from '../../domain/group/run.js';
import { type Happening, happeningsOf, membersOf } from '../../domain/group/story.js';
import { agentsOf, memberName, type ReceiverGroup } from '../../domain/order/receiver-group.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { Counters } from '../../monitor/metrics/table.js';
import { toStillpointError } from '../../protocol/messages/error-body.js';
import type { AuditEvent } from '../audit/entry.js';
import type { AuditLog } from '../audit/log.js';
import {
  type GroupRunEnd,
  type GroupRunsKept,
  keptReason,
  readGroupRuns,
  writeGroupRuns,
} from '../orders/last-group-run.js';

export interface WitnessOptions {
  readonly dir: string;
  readonly log: Logger;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly counters: Counters;
  readonly nowMs: () => number;
}

export interface GroupBackupResult {
  /** All of the group point. */
  readonly points: readonly Point[];
  /** As they ended: with stalls, and why some are out. */
  readonly hosts: readonly RunHost[];
  /** Of what hosts did after their commits too. */
  readonly warnings: readonly string[];
}

/** On whose initiative a group is backed up. */
export type GroupRunBy = GroupRunEnd['by'];

/** @param event what it comes of; null: the run begins */
export type OnRunChange = (run: Run, event: RunEvent | null) => void;

/** As it is now. */
export interface RunningGroup {
  readonly startedMs: number;
  /** Null: its hosts have no orders yet. */
  readonly run: Run | null;
  /** Since when each host is in its state, by agent. */
  readonly sinceMs: ReadonlyMap<string, number>;
}

export class GroupWitness {
  readonly #options: WitnessOptions;
  readonly #running = new Map<string, Watched>();

  constructor(options: WitnessOptions) {
    this.#options = options;
  }

  /** Null: no backup of it runs. */
  running(name: string): RunningGroup | null {
    return this.#running.get(name) ?? null;
  }

  /** @throws the error of the work */
  async watch(
    group: ReceiverGroup,
    by: GroupRunBy,
    work: (onChange: OnRunChange) => Promise<GroupBackupResult>,
  ): Promise<GroupBackupResult> {
    const watched = new Watched(this.#options, group, by);
    this.#running.set(group.name, watched);
    try {
      await watched.begun();
      const result = await work((run, event) => watched.changed(run, event));
      await watched.done(result);
      return result;
    } catch (error) {
      await watched.failed(error);
      throw error;
    } finally {
      this.#running.delete(group.name);
    }
  }
}

class Watched implements RunningGroup {
  readonly startedMs: number;
  readonly sinceMs = new Map<string, number>();
  readonly #options: WitnessOptions;
  readonly #group: ReceiverGroup;
  readonly #by: GroupRunBy;
  readonly #log: Logger;
  readonly #phases = new Map<string, number>();
  #run: Run | null = null;
  #phaseMs: number;
  #missed = 0;

  constructor(options: WitnessOptions, group: ReceiverGroup, by: GroupRunBy) {
    this.#options = options;
    this.#group = group;
    this.#by = by;
    this.#log = options.log.child({ group: group.name });
    this.startedMs = options.nowMs();
    this.#phaseMs = this.startedMs;
  }

  get run(): Run | null {
    return this.#run;
  }

  async begun(): Promise<void> {
    const members = this.#group.members.map(memberName);
    this.#log.info(
      { event: 'group-begun' satisfies LogEvent, by: this.#by, members },
      'backup of the group begins',
    );
    this.#note({
      result: 'begun',
      count: agentsOf(this.#group).length,
      detail: `group ${this.#group.name}: ${members.join(', ')}`,
    });
    const begunAt = new Date(this.startedMs).toISOString();
    await this.#keep(({ last }) => ({ begunAt, last }));
  }

  changed(run: Run, event: RunEvent | null): void {
    const before = this.#run;
    this.#run = run;
    const nowMs = this.#options.nowMs();
    for (const { agent, state } of run.hosts) {
      const was = before?.hosts.find((host) => host.agent === agent)?.state;
      if (was !== state) this.sinceMs.set(agent, nowMs);
    }
    if (before === null || event === null) return;
    if (before.phase !== run.phase) this.#endPhase(before.phase, nowMs);
    for (const happening of happeningsOf(before, event, run)) this.#tell(happening);
  }

  async done({ points, hosts, warnings }: GroupBackupResult): Promise<void> {
    const [first] = points;
    const { name } = this.#group;
    const point = pointLabel({ device: name, sequence: first?.group?.sequence ?? 0 });
    const bytes = points.reduce((sum, { statistics }) => sum + statistics.wireBytes, 0);
    const out = hosts.filter(({ state }) => state === 'out');
    const phases = Object.fromEntries([...this.#phases].map(([phase, ms]) => [`${phase}Ms`, Math.round(ms)]));
    const made = points.map(({ agent, device, sequence }) => `${agent}/${pointLabel({ device, sequence })}`);
    this.#log.info(
      {
        ...{ event: 'group-done' satisfies LogEvent, point, points: made, tries: this.#run?.try, ...phases },
        ...{ wireBytes: bytes, leftOut: out.flatMap(membersOf), warnings: warnings.length },
      },
      'backup of the group done',
    );
    this.#note({ result: 'done', point, count: points.length, bytes, detail: `group ${name}` });
    for (const host of out) {
      const detail = `group ${name}: ${membersOf(host).join(', ')}: ${reasonOf(host)}`;
      const left = { who: 'receiver', what: 'group-left-out', result: 'failed' } as const;
      this.#options.audit.note({ ...left, agent: host.agent, point, detail });
    }
    await this.#ended({ hosts, point, failure: null, warningCount: warnings.length });
  }

  async failed(error: unknown): Promise<void> {
    const { code, thing, reason } = toStillpointError(error);
    const { name } = this.#group;
    const failure = thing === `group ${name}` ? reason : `${thing}: ${reason}`;
    const agent = this.#atFault();
    this.#log.warn(
      { event: 'group-failed' satisfies LogEvent, code, reason: failure, ...(agent !== null && { agent }) },
      'backup of the group failed',
    );
    this.#note({ result: 'failed', agent: agent ?? undefined, detail: `group ${name}: ${failure}` });
    await this.#ended({ hosts: this.#run?.hosts ?? [], point: null, failure, warningCount: 0 });
  }

  #atFault(): string | null {
    const { hosts = [], failure = null } = this.#run ?? {};
    return hosts.find((host) => failure !== null && host.failure === failure)?.agent ?? null;
  }

  #tell(happening: Happening): void {
    switch (happening.type) {
      case 'missed': {
        const { agent, failure, try: of } = happening;
        this.#missed += 1;
        this.#options.counters.add('stillpoint_group_missed_tries_total', { group: this.#group.name }, 1);
        this.#log.warn(
          { event: 'group-try-missed' satisfies LogEvent, agent, try: of, ...told(failure) },
          'a host missed the instant',
        );
        break;
      }
      case 'host-out': {
        const { agent, members, failure } = happening;
        this.#log.warn(
          { event: 'group-host-out' satisfies LogEvent, agent, members, ...told(failure) },
          'a host is out of the backup of the group',
        );
        break;
      }
      case 'instant': {
        const { try: of, instant, stalls } = happening;
        this.#log.info(
          { event: 'group-instant' satisfies LogEvent, try: of, instant, stalls },
          'all hosts have their common instant',
        );
      }
    }
  }

  async #ended(
    how: Pick<GroupRunEnd, 'point' | 'failure' | 'warningCount'> & { readonly hosts: readonly RunHost[] },
  ): Promise<void> {
    const { point, failure, warningCount } = how;
    const nowMs = this.#options.nowMs();
    if (this.#run !== null) this.#endPhase(this.#run.phase, nowMs);
    const { name } = this.#group;
    const result = failure === null ? 'done' : 'failed';
    this.#options.counters.add('stillpoint_group_runs_total', { group: name, result }, 1);
    const last: GroupRunEnd = {
      startedAt: new Date(this.startedMs).toISOString(),
      endedAt: new Date(nowMs).toISOString(),
      ...{ by: this.#by, tries: this.#run?.try ?? 0, missed: this.#missed },
      ...{ instant: this.#run?.instant ?? null, point, warningCount },
      failure: failure === null ? null : keptReason(failure),
      hosts: how.hosts.map((host) => ({
        ...{ agent: host.agent, devices: host.devices, isOut: host.state === 'out' },
        reason: host.failure === null ? null : keptReason(reasonOf(host)),
        stalls: host.state === 'out' ? [] : host.stalls,
      })),
      phases: [...this.#phases].map(([phase, durationMs]) => ({ phase, durationMs })),
    };
    await this.#keep(() => ({ begunAt: null, last }));
  }

  #endPhase(phase: string, nowMs: number): void {
    const spentMs = Math.max(0, nowMs - this.#phaseMs);
    this.#phaseMs = nowMs;
    if (phase !== 'done' && phase !== 'failed')
      this.#phases.set(phase, (this.#phases.get(phase) ?? 0) + spentMs);
  }

  #note(event: Omit<AuditEvent, 'who' | 'what'>): void {
    this.#options.audit.note({ who: this.#by, what: 'group', ...event });
  }

  async #keep(change: (kept: GroupRunsKept) => GroupRunsKept): Promise<void> {
    const { dir } = this.#options;
    const { name } = this.#group;
    try {
      await writeGroupRuns(dir, name, change(await readGroupRuns(dir, name)));
    } catch (error) {
      const { message: reason } = error as Error;
      this.#log.error({ reason }, 'how the backup of the group went is not kept');
    }
  }
}

const told = ({ code, thing, reason }: NonNullable<RunHost['failure']>) => ({ code, thing, reason });

function reasonOf({ failure }: Pick<RunHost, 'failure'>): string {
  return failure === null ? '' : `${failure.thing}: ${failure.reason}`;
}
