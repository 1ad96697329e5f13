/** Counts an agent's runs for its metrics, and keeps what the last one of each device was like. */
import { isStillpointError } from '../../domain/base/errors.js';
import type { ProviderFacts } from '../../domain/point/point.js';
import type { Counters } from '../../monitor/metrics/table.js';
import type { BackupResult } from '../backup/options.js';
import { failureOf } from '../common/failure.js';

export interface RunFacts {
  readonly durationMs: number;
  /** Of its point; null: there is none. */
  readonly facts: ProviderFacts | null;
}

export class RunTally {
  readonly #counters: Counters;
  readonly #last = new Map<string, RunFacts>();

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** @throws what the work throws */
  async run(device: string, work: () => Promise<BackupResult>): Promise<BackupResult> {
    const startMs = performance.now();
    try {
      const result = await work();
      const { statistics, providerFacts } = result.point;
      this.#counters.add('stillpoint_agent_read_bytes_total', { device }, statistics.scannedBytes);
      this.#counters.add('stillpoint_agent_changed_bytes_total', { device }, statistics.changedBytes);
      this.#counters.add('stillpoint_agent_sent_bytes_total', { device }, result.wireBytes);
      this.#end(device, 'done', startMs, providerFacts);
      return result;
    } catch (error) {
      const isFailure = !isStillpointError(error, 'cancelled') && !isStillpointError(error, 'session-busy');
      if (isFailure) this.#counters.add('stillpoint_agent_errors_total', { code: failureOf(error).code }, 1);
      this.#end(device, isFailure ? 'failed' : 'cancelled', startMs, null);
      throw error;
    }
  }

  last(device: string): RunFacts | null {
    return this.#last.get(device) ?? null;
  }

  #end(device: string, result: string, startMs: number, facts: ProviderFacts | null): void {
    const durationMs = performance.now() - startMs;
    this.#last.set(device, { durationMs, facts });
    this.#counters.add('stillpoint_agent_runs_total', { device, result }, 1);
    this.#counters.add('stillpoint_agent_run_seconds_total', { device }, durationMs / 1000);
  }
}
