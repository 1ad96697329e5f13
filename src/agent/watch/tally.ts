/** Counts an agent's runs for its metrics, and keeps what the last one of each device and group was like. */
import { isStillpointError } from '../../domain/base/errors.js';
import type { ProviderFacts } from '../../domain/point/point.js';
import type { Counters } from '../../monitor/metrics/table.js';
import { failureOf } from '../common/failure.js';
import type { JobResult } from '../daemon/options.js';

export interface RunFacts {
  readonly durationMs: number;
  /** Of its point; null: there is none, or the run is a group's. */
  readonly facts: ProviderFacts | null;
  /** Devices that the point of a group is without; null: there is none. */
  readonly leftOut: number | null;
}

export class RunTally {
  readonly #counters: Counters;
  readonly #last = new Map<string, RunFacts>();

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** @param name of a device or a group. @throws what the work throws */
  async run<T extends JobResult>(name: string, work: () => Promise<T>): Promise<T> {
    const startMs = performance.now();
    try {
      const result = await work();
      const ended: JobResult = result;
      for (const { point, wireBytes } of 'group' in ended ? ended.results : [ended]) {
        const { device, statistics, providerFacts: facts } = point;
        this.#counters.add('stillpoint_agent_read_bytes_total', { device }, statistics.scannedBytes);
        this.#counters.add('stillpoint_agent_changed_bytes_total', { device }, statistics.changedBytes);
        this.#counters.add('stillpoint_agent_sent_bytes_total', { device }, wireBytes);
        this.#last.set(device, { durationMs: performance.now() - startMs, facts, leftOut: null });
      }
      const rest =
        'group' in ended
          ? { facts: null, leftOut: ended.leftOut.length }
          : { facts: ended.point.providerFacts, leftOut: null };
      this.#end(name, 'done', startMs, rest);
      return result;
    } catch (error) {
      const isFailure = !isStillpointError(error, 'cancelled') && !isStillpointError(error, 'session-busy');
      if (isFailure) this.#counters.add('stillpoint_agent_errors_total', { code: failureOf(error).code }, 1);
      this.#end(name, isFailure ? 'failed' : 'cancelled', startMs, { facts: null, leftOut: null });
      throw error;
    }
  }

  last(name: string): RunFacts | null {
    return this.#last.get(name) ?? null;
  }

  #end(device: string, result: string, startMs: number, rest: Omit<RunFacts, 'durationMs'>): void {
    const durationMs = performance.now() - startMs;
    this.#last.set(device, { durationMs, ...rest });
    this.#counters.add('stillpoint_agent_runs_total', { device, result }, 1);
    this.#counters.add('stillpoint_agent_run_seconds_total', { device }, durationMs / 1000);
  }
}
