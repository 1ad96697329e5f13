/** The progress of an order, put into words while its command waits. */
import type { OrderChange } from '../../receiver/control/messages.js';
import { formatBytes } from './format.js';
import type { Output, Progress } from './output.js';

interface OrderWords {
  readonly doing: string;
  readonly at: string;
  readonly deed: string;
}

const BACKUP_WORDS: OrderWords = { doing: 'backing up', at: 'backing it up', deed: 'backup' };
export const COMPARE_WORDS: OrderWords = { doing: 'comparing', at: 'comparing it', deed: 'comparison' };

export interface OrderProgressOutput {
  onChange(change: OrderChange): void;
  end(): void;
}

export function orderProgress(
  output: Output,
  agent: string,
  words: OrderWords = BACKUP_WORDS,
): OrderProgressOutput {
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
              ? `${agent} is already ${words.at}; waiting for that ${words.deed}`
              : `${agent} is ${words.doing}`;
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
