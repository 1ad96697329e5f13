/**
 * Requests and bytes per second of each agent. One that is too fast is slowed down: its request waits before
 * its body is read, so it costs no memory. One that would wait too long is refused for now.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { BATCH_BYTES_MAX } from '../../domain/base/limits.js';
import type { Quota } from './quota.js';

const WAIT_MS_MAX = 60_000;
/** So much may come at once. */
const REQUEST_BURST_SECONDS = 2;
/** Agents that were not heard of for so long are forgotten. */
const FORGET_MS = 10 * 60_000;

interface Meter {
  requestsMs: number;
  bytesMs: number;
}

export interface RatesOptions {
  /** Monotonic. */
  readonly nowMs?: () => number;
  readonly sleep?: (ms: number) => Promise<unknown>;
}

export class Rates {
  readonly #quotaOf: (agent: string) => Quota;
  readonly #nowMs: () => number;
  readonly #sleep: (ms: number) => Promise<unknown>;
  /** By agent: when all that it has sent would have been sent at its rate. */
  readonly #meters = new Map<string, Meter>();
  #sweptMs = 0;

  constructor(quotaOf: (agent: string) => Quota, options: RatesOptions = {}) {
    this.#quotaOf = quotaOf;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#sleep = options.sleep ?? ((ms) => sleep(ms, undefined, { ref: false }));
  }

  /** @throws StillpointError `busy` */
  async admit(agent: string, bodyBytes: number): Promise<void> {
    const { requestsPerSecond, bytesPerSecond } = this.#quotaOf(agent);
    const nowMs = this.#nowMs();
    this.#forget(nowMs);
    const meter = this.#meters.get(agent) ?? { requestsMs: 0, bytesMs: 0 };
    const burstMs = 1000 * REQUEST_BURST_SECONDS;
    const requests =
      requestsPerSecond === null ? null : after(meter.requestsMs, nowMs, 1000 / requestsPerSecond, burstMs);
    const bytes =
      bytesPerSecond === null
        ? null
        : after(
            meter.bytesMs,
            nowMs,
            (1000 * bodyBytes) / bytesPerSecond,
            (1000 * BATCH_BYTES_MAX) / bytesPerSecond,
          );
    const waitMs = Math.max(requests?.waitMs ?? 0, bytes?.waitMs ?? 0);
    if (waitMs > WAIT_MS_MAX) throw tooFast(agent);
    this.#meters.set(agent, {
      requestsMs: requests?.atMs ?? meter.requestsMs,
      bytesMs: bytes?.atMs ?? meter.bytesMs,
    });
    if (waitMs > 0) await this.#sleep(waitMs);
  }

  #forget(nowMs: number): void {
    if (nowMs - this.#sweptMs < FORGET_MS) return;
    this.#sweptMs = nowMs;
    for (const [agent, { requestsMs, bytesMs }] of this.#meters) {
      if (Math.max(requestsMs, bytesMs) < nowMs) this.#meters.delete(agent);
    }
  }
}

function after(
  meterMs: number,
  nowMs: number,
  costMs: number,
  burstMs: number,
): { readonly atMs: number; readonly waitMs: number } {
  const atMs = Math.max(meterMs, nowMs) + costMs;
  return { atMs, waitMs: Math.max(0, atMs - nowMs - burstMs) };
}

function tooFast(agent: string): StillpointError {
  return new StillpointError('busy', {
    thing: `agent ${agent}`,
    reason: 'it sends more than the receiver has allowed it in a second',
    remedy: 'The message is sent again later.',
    permanent: false,
  });
}
