/** What a running backup of several devices reports: people see their sum, programs each device. */
import type { AgentEvent } from '../../agent/common/events.js';
import { type AgentProgress, agentProgress, progressDetails } from './agent-progress.js';
import type { Output, Progress } from './output.js';

type Figures = Extract<AgentEvent, { type: 'progress' }>;

export interface GroupProgress {
  /** @param device whose event it is; undefined: of all, or of the only one */
  onEvent(event: AgentEvent, device?: string): void;
  end(): void;
}

export function groupProgress(output: Output, name: string): GroupProgress {
  const whole = agentProgress(output);
  const each = new Map<string, AgentProgress>();
  const figures = new Map<string, Figures>();
  let bar: Progress | null = null;
  const ofDevice = (device: string): AgentProgress => {
    const progress = each.get(device) ?? agentProgress(output, device);
    each.set(device, progress);
    return progress;
  };
  return {
    onEvent: (event, device) => {
      if (device === undefined) return whole.onEvent(event);
      const isText = event.type === 'notice' || event.type === 'warning';
      if (output.json || isText) return ofDevice(device).onEvent(event);
      bar ??= output.progress('group', name);
      if (event.type !== 'progress') return;
      figures.set(device, event);
      const { doneBytes, totalBytes, ...rest } = sumOf([...figures.values()]);
      bar.update({ doneBytes, totalBytes, details: progressDetails(rest) });
    },
    end: () => {
      for (const progress of [whole, ...each.values()]) progress.end();
      bar?.end();
    },
  };
}

function sumOf(all: readonly Figures[]): Omit<Figures, 'type'> {
  const sum = (of: (one: Figures) => number) => all.reduce((total, one) => total + of(one), 0);
  return {
    doneBytes: sum(({ doneBytes }) => doneBytes),
    totalBytes: sum(({ totalBytes }) => totalBytes),
    changedBytes: sum(({ changedBytes = 0 }) => changedBytes),
    wireBytes: sum(({ wireBytes }) => wireBytes),
  };
}
