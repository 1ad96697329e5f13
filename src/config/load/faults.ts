/** What is wrong with a configuration: all of it, each with its place. */
import { StillpointError } from '../../domain/base/errors.js';
import type { Origin } from '../toml/parse.js';

export interface ConfigFault {
  readonly file: string;
  /** From 1; null: of the file as a whole. */
  readonly line: number | null;
  /** `device.schedule`; null: of no key. */
  readonly key: string | null;
  /** A clause. */
  readonly reason: string;
  /** A sentence. */
  readonly remedy: string | null;
}

export function faultAt(
  { file, line }: Origin,
  key: string | null,
  reason: string,
  remedy: string | null = null,
): ConfigFault {
  return { file, line, key, reason, remedy };
}

function thingOf({ file, line, key }: ConfigFault): string {
  return [line === null ? file : `${file}:${line}`, ...(key === null ? [] : [key])].join(': ');
}

export function faultText(fault: ConfigFault): string {
  return `${thingOf(fault)}: ${fault.reason}.${fault.remedy === null ? '' : ` ${fault.remedy}`}`;
}

/** For commands that can't go on: the first fault, and that there are more. */
export function configError(faults: readonly ConfigFault[]): StillpointError {
  const [first, ...others] = faults;
  if (first === undefined) throw new Error('there is no fault');
  const more =
    others.length === 0
      ? []
      : [`There ${others.length === 1 ? 'is' : 'are'} ${others.length} more: see "stillpoint config check".`];
  return new StillpointError('config', {
    thing: thingOf(first),
    reason: first.reason,
    remedy: [...(first.remedy === null ? [] : [first.remedy]), ...more].join(' ') || 'Correct the file.',
  });
}
