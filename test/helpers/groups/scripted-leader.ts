/** The receiver's side of a group over several hosts, as a test writes it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { GroupStepPort } from '../../../src/agent/group/remote-leader.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { GroupCommand, GroupReport, GroupStepRequest } from '../../../src/domain/group/steps.js';

export const RUN_ID = 'ab'.repeat(16);
export const INSTANT = '2031-01-01T00:00:00.000Z';
export const WAIT: GroupCommand = { do: 'wait' };

type Answer = (report: GroupReport, count: number) => GroupCommand | null | Promise<GroupCommand | null>;

/** Null is an answer that waits for its time. */
export class ScriptedSteps implements GroupStepPort {
  readonly reports: GroupReport[] = [];
  answer: Answer;
  /** Thrown in place of the answer, after the request has arrived. */
  breaks: (report: GroupReport, count: number) => boolean = () => false;

  constructor(answer: Answer = wellBehaved()) {
    this.answer = answer;
  }

  async groupStep({ report, waitMs, runId }: GroupStepRequest, signal?: AbortSignal): Promise<GroupCommand> {
    if (runId !== RUN_ID) throw new Error(`nobody knows the run ${runId}`);
    this.reports.push(report);
    const count = this.states.filter((state) => state === report.state).length;
    if (this.breaks(report, count)) throw linkBroke();
    const command = await this.answer(report, count);
    if (this.breaks(report, -count)) throw linkBroke();
    if (command !== null) return command;
    await sleep(waitMs, undefined, { signal });
    return WAIT;
  }

  get states(): string[] {
    return this.reports.map(({ state }) => state);
  }

  /** Without those that are told again. */
  get steps(): string[] {
    return this.states.filter((state, i, all) => state !== all[i - 1]);
  }
}

export function linkBroke(): StillpointError {
  return new StillpointError('connection-lost', {
    ...{ thing: 'receiver', reason: 'the connection was lost', permanent: false },
  });
}

/** As a receiver that has no other hosts. */
export function wellBehaved(closedMs = 2_000): Answer {
  return (report) => {
    switch (report.state) {
      case 'ready':
        return { do: 'rest', try: report.try, restMs: 5_000, closedMs };
      case 'rested':
        return { do: 'close', try: report.try };
      case 'closed':
        return { do: 'cut', try: report.try, instant: INSTANT };
      case 'transferred': {
        const { kind, sessionIds } = report;
        return { do: 'commit', kind, group: { id: RUN_ID, name: 'all', sessionIds } };
      }
      default:
        return null;
    }
  };
}
