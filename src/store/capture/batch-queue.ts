/**
 * The batches of a capture that have arrived and are not durable yet, by number: at most BATCH_WINDOW,
 * decoded side by side as they arrive. A batch whose predecessor does not arrive is refused after
 * PREDECESSOR_WAIT_MS, so that a dead agent's batches don't stay in memory.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { BATCH_WINDOW } from '../../domain/base/limits.js';
import { type DecodedBatch, type Digester, native } from '../../native/index.js';
import { toBatchError } from '../disk/errors.js';
import type { CaptureDescription } from '../port/store.js';

const PREDECESSOR_WAIT_MS = 60_000;

interface Answer {
  readonly durableSequence: number;
}

export interface QueuedBatch {
  readonly sequence: number;
  readonly body: Buffer;
  /** Rejects for a batch that is refused, and that is no longer in the queue then. */
  readonly decoded: Promise<DecodedBatch>;
  isDecoded: boolean;
}

interface Entry extends QueuedBatch {
  readonly answer: Promise<Answer>;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: StillpointError) => void;
}

export class BatchQueue {
  readonly #description: CaptureDescription;
  readonly #digester: Digester;
  readonly #name: string;
  readonly #durableSequence: () => number;
  readonly #entries = new Map<number, Entry>();

  /** @param name of the session, for errors */
  constructor(
    description: CaptureDescription,
    digester: Digester,
    name: string,
    durableSequence: () => number,
  ) {
    this.#description = description;
    this.#digester = digester;
    this.#name = name;
    this.#durableSequence = durableSequence;
  }

  /** Settles when the batch is durable or refused; a batch that is in the queue already is waited for. */
  add(sequence: number, body: Buffer): Promise<Answer> {
    const known = this.#entries.get(sequence);
    if (known !== undefined) return known.answer;
    const { next } = this;
    if (!Number.isSafeInteger(sequence) || sequence < next || sequence >= next + BATCH_WINDOW) {
      throw this.#outOfOrder(sequence, `only batches ${next} to ${next + BATCH_WINDOW - 1} are taken now`);
    }
    const { sessionId, geometry } = this.#description;
    const decoded = native.decodeBatch(body, {
      ...{ sessionId, sequence, digester: this.#digester },
      ...geometry,
    });
    const entry = newEntry(sequence, body, decoded);
    this.#entries.set(sequence, entry);
    decoded.then(
      () => {
        entry.isDecoded = true;
      },
      (error) => this.refuse(entry, toBatchError(error, `batch ${sequence} of ${this.#name}`)),
    );
    const timer = setTimeout(() => this.#refuseIfStuck(entry), PREDECESSOR_WAIT_MS);
    timer.unref();
    entry.answer.catch(() => undefined).finally(() => clearTimeout(timer));
    return entry.answer;
  }

  /** Number of the batch that is to become durable next. */
  get next(): number {
    return this.#durableSequence() + 1;
  }

  get(sequence: number): QueuedBatch | undefined {
    return this.#entries.get(sequence);
  }

  /** The batch is durable. */
  answer({ sequence }: QueuedBatch): void {
    const entry = this.#entries.get(sequence);
    this.#entries.delete(sequence);
    entry?.resolve({ durableSequence: this.#durableSequence() });
  }

  refuse(batch: QueuedBatch, error: StillpointError): void {
    const entry = this.#entries.get(batch.sequence);
    if (entry !== batch) return;
    this.#entries.delete(batch.sequence);
    entry.reject(error);
  }

  refuseAll(error: StillpointError): void {
    for (const entry of [...this.#entries.values()]) this.refuse(entry, error);
  }

  /** A batch that the capture can take is left to it. */
  #refuseIfStuck(entry: Entry): void {
    for (let sequence = this.next; sequence < entry.sequence; sequence += 1) {
      if (this.#entries.has(sequence)) continue;
      const reason = `batch ${sequence}, which comes before it, did not arrive`;
      this.refuse(entry, this.#outOfOrder(entry.sequence, reason));
      return;
    }
  }

  #outOfOrder(sequence: number, reason: string): StillpointError {
    return new StillpointError('out-of-order', {
      thing: `batch ${sequence} of ${this.#name}`,
      reason,
      remedy: 'Continue from the last durable batch.',
      permanent: false,
    });
  }
}

function newEntry(sequence: number, body: Buffer, decoded: Promise<DecodedBatch>): Entry {
  let resolve: Entry['resolve'] = () => undefined;
  let reject: Entry['reject'] = () => undefined;
  const answer = new Promise<Answer>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { sequence, body, decoded, isDecoded: false, answer, resolve, reject };
}
