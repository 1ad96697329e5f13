/** How far a restore is, told as it goes. One phase at a time: the next one ends the former. */
import type { Scan } from '../../native/index.js';
import { everyInterval, type OnAgentEvent } from '../common/events.js';

export class RestoreProgress {
  readonly #onEvent: OnAgentEvent;
  readonly #wireBytes: () => number;
  #end: () => void = () => undefined;
  #doneBytes = 0;
  /** Raw bytes fetched and written, zeros not counted. */
  writtenBytes = 0;
  /** Of the target, to find what differs. */
  readBytes = 0;

  constructor(onEvent: OnAgentEvent, wireBytes: () => number) {
    this.#onEvent = onEvent;
    this.#wireBytes = wireBytes;
  }

  /** @returns ends it; harmless if it has ended */
  start(phase: 'restore' | 'journal' | 'verify', totalBytes: number): () => void {
    this.#end();
    this.#doneBytes = 0;
    this.#onEvent({ type: 'phase', phase });
    const stop = everyInterval(() => this.#report(totalBytes));
    let isEnded = false;
    const end = () => {
      if (!isEnded) stop();
      isEnded = true;
    };
    this.#end = end;
    return end;
  }

  /** Of a scan that digests the target. */
  watch(scan: Scan, totalBytes: number): () => void {
    return everyInterval(() => {
      this.readBytes = scan.progress().readBytes;
      this.#doneBytes = scan.progress().scannedBytes;
      this.#report(totalBytes);
    });
  }

  /** So many bytes more are done; fetched ones were not zero. */
  readonly count = (bytes: number, isFetched: boolean): void => {
    this.#doneBytes += bytes;
    if (isFetched) this.writtenBytes += bytes;
  };

  /** So many are done. */
  readonly reach = (doneBytes: number): void => {
    this.#doneBytes = doneBytes;
  };

  #report(totalBytes: number): void {
    const doneBytes = Math.min(this.#doneBytes, totalBytes);
    this.#onEvent({ type: 'progress', doneBytes, totalBytes, wireBytes: this.#wireBytes() });
  }
}
