/**
 * Everything that a command says, in one of two languages:
 *
 * |          | people                                           | programs (--json)                      |
 * |----------|--------------------------------------------------|----------------------------------------|
 * | result   | lines on stdout                                  | {"event":"result", ...}, the last line |
 * | part     | lines on stdout, before those of the result      | {"event":NAME, ...}                    |
 * | progress | stderr: a bar that is redrawn, or lines in a log | {"event":"progress", ...}              |
 * | note     | a line on stderr                                 | {"event":"note", ...}                  |
 * | warning  | a line on stderr                                 | {"event":"warning", ...}               |
 * | error    | `error: thing: reason. remedy.` on stderr        | {"event":"error", ...}                 |
 *
 * Programs get one JSON object a line on stdout; if stdout carries data (`restore POINT -`), all of it goes
 * to stderr. --quiet drops progress and notes, and the results for people if the exit code says everything.
 */
import type { Writable } from 'node:stream';
import type { StillpointError } from '../../domain/base/errors.js';
import { EXIT_FAILED, exitCodeOf, isFailure } from './exit-codes.js';
import { printable } from './format.js';
import { ProgressMeter, type ProgressSample } from './progress.js';
import { outputError } from './standard-output.js';
import { toldError } from './told-error.js';

export interface TextSink {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  /** Why something that was written got lost. */
  readonly failure?: Error | null;
  /** Resolves when all is taken or lost. */
  flush?(): Promise<void>;
  /** For data that is not text. */
  readonly stream?: Writable;
}

export interface OutputOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  /** To tell errors of files in it; null: none is known. */
  readonly stateDirectory?: string | null;
  readonly now?: () => number;
}

export interface Progress {
  update(sample: ProgressSample, figures?: Readonly<Record<string, unknown>>): void;
  /** Takes the bar away. */
  end(): void;
}

/** How often progress is told, in ms: a bar on a terminal, lines in a log, events for programs. */
const REDRAW_MS = 100;
const LINE_MS = 5_000;
const EVENT_MS = 1_000;
const OUTPUT_THING = 'standard output';
const CLEAR_LINE = '\r\u001b[K';

export class Output {
  readonly #options: OutputOptions;
  readonly #now: () => number;
  #stdoutIsData = false;
  #barShown = false;
  #stands: string | undefined;
  #lossIsTold = false;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  get json(): boolean {
    return this.#options.json;
  }

  /** From here on nothing but the command's data goes to stdout. */
  reserveStdout(): void {
    this.#stdoutIsData = true;
  }

  /**
   * @param lines nothing to show for people: an empty array.
   * @param essential shown to people even with --quiet.
   */
  result(value: object, lines: readonly string[], essential = false): void {
    this.#clearBar();
    if (this.json) this.#event('result', value);
    if (this.json || (this.#options.quiet && !essential)) return;
    const sink = this.#stdoutIsData ? this.#options.stderr : this.#options.stdout;
    for (const line of lines) sink.write(`${printable(line)}\n`);
  }

  /**
   * A part of a result that may be long: told as it comes, never gathered.
   * @param lines empty: nothing to show for people.
   */
  part(event: string, value: object, lines: readonly string[]): void {
    this.#clearBar();
    const loss = this.#loss();
    if (loss !== null) throw loss;
    if (this.json) this.#event(event, value);
    else for (const line of lines) this.#options.stdout.write(`${printable(line)}\n`);
  }

  /** @param device of several: the one that it is about */
  note(text: string, device?: string): void {
    if (this.#options.quiet) return;
    this.#tell('note', '', text, device);
  }

  warn(text: string, device?: string): void {
    this.#tell('warning', 'warning: ', text, device);
  }

  #tell(event: string, label: string, text: string, device: string | undefined): void {
    const whose = device === undefined ? {} : { device };
    if (this.json) this.#event(event, { text, ...whose });
    else this.#line(`${label}${device === undefined ? '' : `${device}: `}${text}`);
  }

  error(thrown: unknown): void {
    const error = toldError(thrown, this.#options.stateDirectory ?? null);
    this.#lossIsTold ||= error.thing === OUTPUT_THING;
    if (this.json) {
      const { code, thing, reason, remedy = null } = error;
      this.#event('error', { code, exitCode: exitCodeOf(error), thing, reason, remedy });
      // The event itself may get lost.
      if (this.#options.stdout.failure == null) return;
    }
    this.#line(`error: ${error.message}`);
  }

  /** Waits until what went to standard output is there. @throws StillpointError if some of it is lost */
  async requireDelivery(): Promise<void> {
    await this.#options.stdout.flush?.();
    const loss = this.#loss();
    if (loss !== null) throw loss;
  }

  /** What is done already, as a sentence: true even if no result can be printed. */
  stands(sentence: string): void {
    this.#stands = sentence;
  }

  /**
   * Waits until everything is printed.
   * @returns the exit code: what got lost is told, and makes a success a failure.
   */
  async delivered(exitCode: number): Promise<number> {
    const { stdout, stderr } = this.#options;
    await stdout.flush?.();
    await stderr.flush?.();
    const loss = this.#loss();
    if (loss === null) return exitCode;
    if (!this.#lossIsTold) this.#line(`error: ${loss.message}`);
    return isFailure(exitCode) ? exitCode : EXIT_FAILED;
  }

  #loss(): StillpointError | null {
    const { stdout, stderr } = this.#options;
    if (stdout.failure != null) return outputError(OUTPUT_THING, stdout.failure, this.#stands);
    const isOnStderr = this.#stdoutIsData && this.json;
    return isOnStderr && stderr.failure != null
      ? outputError('standard error', stderr.failure, this.#stands)
      : null;
  }

  /** @param stage a stable word for programs. @param label for people. */
  progress(stage: string, label: string): Progress {
    if (this.#options.quiet) return { update: () => undefined, end: () => undefined };
    const started = this.#now();
    const meter = new ProgressMeter(label, started);
    const isBar = !this.json && this.#options.stderr.isTTY === true;
    const everyMs = this.json ? EVENT_MS : isBar ? REDRAW_MS : LINE_MS;
    let toldMs = isBar ? Number.NEGATIVE_INFINITY : started;
    return {
      update: (sample, figures = {}) => {
        const now = this.#now();
        if (now - toldMs < everyMs) return;
        toldMs = now;
        meter.update(sample, now);
        if (this.json) {
          const { doneBytes, totalBytes } = sample;
          const rates = {
            bytesPerSecond: Math.round(meter.rate),
            leftMs: meter.leftMs === null ? null : Math.round(meter.leftMs),
          };
          this.#event('progress', { stage, doneBytes, totalBytes, ...rates, ...figures });
        } else if (isBar) {
          this.#options.stderr.write(
            `${CLEAR_LINE}${printable(meter.bar(this.#options.stderr.columns || 80))}`,
          );
          this.#barShown = true;
        } else {
          this.#line(meter.line());
        }
      },
      end: () => this.#clearBar(),
    };
  }

  #line(text: string): void {
    this.#clearBar();
    this.#options.stderr.write(`${printable(text)}\n`);
  }

  #clearBar(): void {
    if (!this.#barShown) return;
    this.#barShown = false;
    this.#options.stderr.write(CLEAR_LINE);
  }

  #event(event: string, value: object): void {
    const sink = this.#stdoutIsData ? this.#options.stderr : this.#options.stdout;
    sink.write(`${JSON.stringify({ event, ...value })}\n`);
  }
}
