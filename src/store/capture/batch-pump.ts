/**
 * Makes the batches in a capture's queue durable, in order and in groups, as long as there is a next one. It
 * holds the capture's lock meanwhile. Decoding needs no lock.
 *
 * State: whether it is running, and whether a batch came since it last looked.
 */
import { isStillpointError } from '../../domain/base/errors.js';
import type { DecodedBatch } from '../../native/index.js';
import type { Mutex } from '../disk/mutex.js';
import type { BatchQueue, QueuedBatch } from './batch-queue.js';
import type { CaptureStaging } from './staging.js';

export interface BatchPumpOptions {
  readonly lock: Mutex;
  readonly queue: BatchQueue;
  /** Where they go; null: nothing is to be written now. */
  readonly staging: () => CaptureStaging | null;
  readonly onDurable: (sequence: number) => void;
  /** A write failed in the middle. */
  readonly onFailure: (error: unknown) => Promise<void>;
}

export class BatchPump {
  readonly #options: BatchPumpOptions;
  #isRunning = false;
  #isAsked = false;

  constructor(options: BatchPumpOptions) {
    this.#options = options;
  }

  /** A batch came. */
  start(): void {
    this.#isAsked = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#options.lock.run(async () => {
      try {
        // A batch may come just when the last look found none: then it is looked once more.
        while (this.#isAsked) {
          this.#isAsked = false;
          for (;;) {
            const staging = this.#options.staging();
            if (staging === null || !(await this.#writeGroup(staging))) break;
          }
        }
      } catch (error) {
        await this.#options.onFailure(error);
      } finally {
        this.#isRunning = false;
      }
    });
  }

  /** Makes the next batches durable together, as many as are decoded. False if the next one isn't there. */
  async #writeGroup(staging: CaptureStaging): Promise<boolean> {
    const { queue } = this.#options;
    if (staging.packIsFull) await staging.roll();
    const group: QueuedBatch[] = [];
    for (let sequence = queue.next; !staging.packIsFull; sequence += 1) {
      const batch = queue.get(sequence);
      if (batch === undefined || (group.length > 0 && !batch.isDecoded)) break;
      if (!(await this.#prepare(staging, batch))) break;
      group.push(batch);
    }
    const last = group.at(-1);
    if (last === undefined) return false;
    await staging.sync();
    this.#options.onDurable(last.sequence);
    for (const batch of group) queue.answer(batch);
    return true;
  }

  /** False if the batch is refused. */
  async #prepare(staging: CaptureStaging, batch: QueuedBatch): Promise<boolean> {
    let decoded: DecodedBatch;
    try {
      decoded = await batch.decoded;
    } catch {
      return false;
    }
    try {
      await staging.prepare({ sequence: batch.sequence, body: batch.body, decoded });
      return true;
    } catch (error) {
      if (!isStillpointError(error, 'bad-batch')) throw error;
      this.#options.queue.refuse(batch, error);
      return false;
    }
  }
}
