/** What a running backup or restore reports, put into words. */
import type { AgentEvent, OnAgentEvent } from '../../agent/common/events.js';
import type { ProviderFacts } from '../../domain/point/point.js';
import { formatBytes } from './format.js';
import type { Output, Progress } from './output.js';

type Phase = Extract<AgentEvent, { type: 'phase' }>['phase'];

/** Phases without one are over in a moment. */
const LABELS: Partial<Record<Phase, string>> = {
  'fetch-tree': 'fetching digests',
  compare: 'digesting the device',
  check: 'checking what the receiver stores',
  scan: 'backing up',
  prove: 'proving that it is one instant',
  restore: 'restoring',
  journal: 'writing what the journal has',
  verify: 'reading back',
};

/** What it cost that the device changed while it was copied: nothing, or a text. */
export function sentAgain({ passes, sentAgainBytes }: ProviderFacts): string[] {
  if (typeof passes !== 'number' || typeof sentAgainBytes !== 'number' || sentAgainBytes === 0) return [];
  const count = `${passes} ${passes === 1 ? 'pass' : 'passes'}`;
  return [`${formatBytes(sentAgainBytes)} that changed after they were sent, in ${count}`];
}

export interface AgentProgress {
  readonly onEvent: OnAgentEvent;
  end(): void;
}

/** @param device of several: whose progress it is */
export function agentProgress(output: Output, device?: string): AgentProgress {
  const whose = device === undefined ? {} : { device };
  let phase: Phase | null = null;
  let progress: Progress | null = null;
  /** Figures of the pass that is read, for programs. */
  let passing: Readonly<Record<string, number>> = {};
  const end = (): void => {
    progress?.end();
    progress = null;
  };
  const onEvent: OnAgentEvent = (event) => {
    if (event.type === 'notice') return output.note(event.text, device);
    if (event.type === 'warning') return output.warn(event.text, device);
    if (event.type === 'phase') {
      end();
      passing = {};
      phase = event.phase;
      const label = LABELS[phase];
      if (label !== undefined) progress = output.progress(phase, label);
      return;
    }
    if (event.type === 'pass') {
      end();
      const { pass, sentAgainBytes } = event;
      passing = { pass, sentAgainBytes };
      progress = output.progress('scan', `backing up, pass ${pass}`);
      return;
    }
    const { doneBytes, totalBytes, changedBytes, wireBytes } = event;
    progress?.update(
      { doneBytes, totalBytes, details: progressDetails(event) },
      { ...whose, ...(changedBytes === undefined ? {} : { changedBytes }), wireBytes, ...passing },
    );
  };
  return { onEvent, end };
}

export function progressDetails({
  changedBytes,
  wireBytes,
}: Pick<Extract<AgentEvent, { type: 'progress' }>, 'changedBytes' | 'wireBytes'>): string[] {
  return [
    ...(changedBytes === undefined ? [] : [`${formatBytes(changedBytes)} changed`]),
    ...(wireBytes === 0 ? [] : [`${formatBytes(wireBytes)} on the wire`]),
  ];
}
