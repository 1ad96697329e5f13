/** The progress of an order, put into words while its command waits. */
import type { OrderChange } from '../../receiver/control/messages.js';
import { formatBytes } from './format.js';
import type { Output, Progress } from './output.js';

export interface OrderProgressOutput {
  onChange(change: OrderChange): void;
  end(): void;
}

export function orderProgress(output: Output, agent: string): OrderProgressOutput {
  let told: string | null = null;
  let progress: Progress | null = null;
  return {
    onChange: ({ state, hasJoined, progress: figures }) => {
      const text =
        state === 'queued'
          ? `waiting for ${agent}`
          : state === 'taken'
            ? `${agent} has the order`
            : hasJoined
              ? `${agent} is already backing it up; waiting for that backup`
              : `${agent} is backing up`;
      if (told !== text && (state === 'queued' || state === 'taken' || state === 'running'))
        output.note(text);
      told = text;
      if (state !== 'running' || figures === null) return;
      progress ??= output.progress('order', agent);
      const { doneBytes, totalBytes, changedBytes, wireBytes } = figures;
      const details = [`${formatBytes(changedBytes)} changed`, `${formatBytes(wireBytes)} on the wire`];
      progress.update({ doneBytes, totalBytes, details }, { ...figures });
    },
    end: () => progress?.end(),
  };
}
