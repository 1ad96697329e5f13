/**
 * How far a command is, as one line: pure state and text. output.ts writes it.
 *
 * The rate is that of the last seconds, not since the start: otherwise a device with an empty beginning would
 * promise an end that never comes.
 */
import { formatBytes, formatDuration } from './format.js';

export interface ProgressSample {
  readonly doneBytes: number;
  /** 0: not known. */
  readonly totalBytes: number;
  /** Further figures, in order: `changed 12 MiB`. */
  readonly details?: readonly string[];
}

const WINDOW_MS = 5_000;
const BAR_WIDTH = 20;

export class ProgressMeter {
  readonly #label: string;
  /** Samples of the last WINDOW_MS, and one from before it. */
  #samples: { readonly atMs: number; readonly doneBytes: number }[];
  #last: ProgressSample = { doneBytes: 0, totalBytes: 0 };

  constructor(label: string, nowMs: number) {
    this.#label = label;
    this.#samples = [{ atMs: nowMs, doneBytes: 0 }];
  }

  update(sample: ProgressSample, nowMs: number): void {
    this.#last = sample;
    this.#samples.push({ atMs: nowMs, doneBytes: sample.doneBytes });
    while ((this.#samples[1]?.atMs ?? nowMs) < nowMs - WINDOW_MS) this.#samples.shift();
  }

  /** Bytes per second over the window; 0 while nothing can be said. */
  get rate(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    return Math.max(0, ((last.doneBytes - first.doneBytes) * 1000) / (last.atMs - first.atMs));
  }

  /** Null while nothing can be said. */
  get leftMs(): number | null {
    const { doneBytes, totalBytes } = this.#last;
    return this.rate === 0 || totalBytes === 0 ? null : ((totalBytes - doneBytes) / this.rate) * 1000;
  }

  get #percent(): string {
    const { doneBytes, totalBytes } = this.#last;
    return totalBytes === 0 ? '' : `${Math.min(100, Math.floor((doneBytes / totalBytes) * 100))}%`;
  }

  get #figures(): string[] {
    const { doneBytes, totalBytes, details = [] } = this.#last;
    const done =
      totalBytes === 0 ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    const left = this.leftMs;
    return [
      done,
      ...(this.rate > 0 ? [`${formatBytes(this.rate)}/s`] : []),
      ...details,
      ...(left === null ? [] : [`${formatDuration(left)} left`]),
    ];
  }

  /** For a terminal: cut to its width. */
  bar(width: number): string {
    const { doneBytes, totalBytes } = this.#last;
    const full = totalBytes === 0 ? 0 : Math.min(BAR_WIDTH, Math.floor((doneBytes / totalBytes) * BAR_WIDTH));
    const bar =
      totalBytes === 0
        ? ''
        : ` [${'#'.repeat(full)}${'.'.repeat(BAR_WIDTH - full)}] ${this.#percent.padStart(4)}`;
    return `${this.#label}${bar}  ${this.#figures.join('  ')}`.slice(0, Math.max(1, width - 1));
  }

  /** For a log. */
  line(): string {
    const percent = this.#percent === '' ? '' : ` ${this.#percent}`;
    return `${this.#label}:${percent} ${this.#figures.join(', ')}`;
  }
}
