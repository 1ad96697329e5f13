/**
 * The values of a process's metrics. Counters count as things happen; gauges are what a look finds, and one
 * that a look no longer finds is gone. Series are bounded, whatever agents name their devices.
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import {
  type Counters,
  type Labels,
  METRICS,
  type MetricName,
  metricsOf,
  type Role,
  type Sample,
} from './table.js';

const SERIES_MAX = 20_000;
/** Gauges of the library whose names say that they are counters: `promtool check metrics` refuses them. */
const MISNAMED = ['handles', 'requests', 'resources'].map((name) => `nodejs_active_${name}_total`);

export class Metrics implements Counters {
  readonly #registry = new Registry();
  readonly #gauges = new Map<MetricName, Gauge>();
  readonly #counters = new Map<MetricName, Counter>();
  /** Of counters: they stay. */
  readonly #series = new Set<string>();

  constructor(role: Role, version: string) {
    for (const name of metricsOf(role)) {
      const { type, labels, help } = METRICS[name];
      const options = { name, help, labelNames: [...labels], registers: [this.#registry] };
      if (type === 'gauge') this.#gauges.set(name, clear(name, new Gauge(options)));
      else this.#counters.set(name, new Counter(options));
    }
    this.#gauges.get('stillpoint_build_info')?.set({ version, role }, 1);
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  add(name: MetricName, labels: Labels, value: number): void {
    const counter = this.#counters.get(name);
    if (counter === undefined || !(value >= 0)) return;
    const series = `${name} ${JSON.stringify(labels)}`;
    if (!this.#series.has(series) && this.#series.size >= SERIES_MAX) return;
    this.#series.add(series);
    counter.inc(labels, value);
  }

  /** Instead of what the last look found. */
  show(samples: readonly Sample[]): void {
    for (const [name, gauge] of this.#gauges) if (name !== 'stillpoint_build_info') clear(name, gauge);
    for (const { name, labels, value } of samples.slice(0, SERIES_MAX))
      this.#gauges.get(name)?.set(labels, value);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

/** A gauge without labels would show 0 for what is not known. */
function clear(name: MetricName, gauge: Gauge): Gauge {
  gauge.reset();
  if (METRICS[name].labels.length === 0) gauge.remove();
  return gauge;
}
