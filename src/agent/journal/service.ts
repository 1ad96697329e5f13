/**
 * Ships the journals of this machine's taps: of each whose source is a device of the configuration, to the
 * receiver of that device and under its name. docs/journal.md, "From the tap to the receiver".
 *
 * | a tap with a journal           | is                                                          |
 * |--------------------------------|-------------------------------------------------------------|
 * | of a device                    | followed (tap-journals.ts), whether it runs or not          |
 * | of two devices, two receivers  | shipped to both; released at the lower                      |
 * | of two devices, one receiver   | shipped under the first name                                |
 * | of none, or removed            | left alone                                                  |
 *
 * Only the agent's process does it: its lock on the state directory, where the taps are, lets no second one
 * in. It would do no harm: receivers take no record twice. A pause of backups does not hold it up, since a
 * journal that is not shipped breaks.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { DeviceSettings } from '../../config/agent-config.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { stampMs } from '../../domain/journal/journal.js';
import type { Counters } from '../../monitor/metrics/table.js';
import type { RegisteredTap } from '../../tap/registry/registry.js';
import type { JournalTarget } from './shipper.js';
import { devicesOfTaps } from './sources.js';
import { type JournaledTap, TapJournals, type TapJournalsOptions } from './tap-journals.js';
import type { JournalView } from './view.js';

/** Where a device's journal goes; or why it goes nowhere, a clause. */
export type TargetChoice = JournalTarget | { readonly problem: string };

export interface JournalServiceOptions
  extends Pick<TapJournalsOptions, 'readHead' | 'scan' | 'connect' | 'now' | 'wallMs' | 'random'> {
  readonly log: Logger;
  readonly counters: Counters;
  readonly signal: AbortSignal;
  /** Those that are backed up. */
  readonly devices: () => readonly DeviceSettings[];
  /** @throws whatever keeps them from being read: those that are known stay */
  readonly listTaps: () => Promise<readonly RegisteredTap[]>;
  /** Null: it has no journal. */
  readonly journalOf: (tap: RegisteredTap) => JournaledTap | null;
  readonly targetOf: (device: DeviceSettings) => Promise<TargetChoice>;
  readonly lookMs?: number;
}

interface Followed {
  readonly journals: TapJournals;
  aims: readonly Aim[];
  readonly stop: AbortController;
}

interface Aim {
  readonly device: string;
  readonly choice: TargetChoice;
}

const LOOK_MS = 5_000;

export class JournalService {
  readonly #options: JournalServiceOptions;
  readonly #followed = new Map<string, Followed>();
  readonly #ends = new Set<Promise<void>>();
  #problem: string | null = null;

  constructor(options: JournalServiceOptions) {
    this.#options = options;
  }

  /** Until the signal; then what is under way has ended. */
  async run(): Promise<void> {
    const { signal, lookMs = LOOK_MS } = this.#options;
    while (!signal.aborted) {
      await this.look();
      await sleep(lookMs, undefined, { signal }).catch(() => undefined);
    }
    await Promise.all(this.#ends);
  }

  /** Which taps there are now, and for whom. */
  async look(): Promise<void> {
    const { listTaps, journalOf, devices, log, signal } = this.#options;
    try {
      const taps = (await listTaps()).filter((tap) => journalOf(tap) !== null);
      const found = await devicesOfTaps(taps, devices());
      const wanted = new Map<string, { readonly tap: JournaledTap; readonly aims: readonly Aim[] }>();
      for (const each of taps) {
        const tap = journalOf(each);
        const aims = await this.#aims(found.get(each.settings.name) ?? []);
        if (tap !== null && aims.length > 0) wanted.set(keyOf(tap), { tap, aims });
      }
      if (!signal.aborted) this.#apply(wanted);
      for (const { journals } of this.#followed.values())
        journals.isServed = await this.#isServed(journals.tap);
      this.#problem = null;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#problem) log.warn({ reason: message }, 'the taps can not be looked at');
      this.#problem = message;
    }
  }

  /** A tap that was killed leaves its last head as it was. */
  async #isServed({ controlPath }: JournaledTap): Promise<boolean> {
    return this.#options.connect(controlPath).then(
      (control) => {
        control.close();
        return true;
      },
      (error) => !isStillpointError(error, 'unreachable'),
    );
  }

  async #aims(devices: readonly DeviceSettings[]): Promise<Aim[]> {
    const aims: Aim[] = [];
    for (const device of devices) {
      const choice = await this.#options.targetOf(device);
      const other = aims.find(
        ({ choice: before }) => 'key' in before && 'key' in choice && before.receiverId === choice.receiverId,
      );
      const problem = `the journal of its tap is shipped to this receiver as that of ${other?.device}`;
      aims.push({ device: device.name, choice: other === undefined ? choice : { problem } });
    }
    return aims;
  }

  #apply(wanted: ReadonlyMap<string, { readonly tap: JournaledTap; readonly aims: readonly Aim[] }>): void {
    for (const [key, { stop }] of this.#followed) {
      if (wanted.has(key)) continue;
      stop.abort();
      this.#followed.delete(key);
    }
    for (const [key, { tap, aims }] of wanted) {
      const followed = this.#followed.get(key) ?? this.#begin(tap);
      this.#followed.set(key, followed);
      followed.aims = aims;
      followed.journals.targets = aims.flatMap(({ choice }) => ('key' in choice ? [choice] : []));
    }
  }

  #begin(tap: JournaledTap): Followed {
    const { readHead, scan, connect, now, wallMs, random, log, counters, signal } = this.#options;
    const stop = new AbortController();
    const journals = new TapJournals({
      ...{ tap, readHead, scan, connect, now, wallMs, random, log, counters },
      signal: AbortSignal.any([signal, stop.signal]),
    });
    // Once it knows whom to ship to.
    const end = Promise.resolve()
      .then(() => journals.run())
      .finally(() => this.#ends.delete(end));
    this.#ends.add(end);
    return { journals, aims: [], stop };
  }

  /** By device. */
  view(): JournalView[] {
    const views = [...this.#followed.values()].flatMap(({ journals, aims }) =>
      aims.map((aim) => viewOf(journals, aim)),
    );
    return views.sort((a, b) => (a.device < b.device ? -1 : 1));
  }
}

const keyOf = ({ name, directory, headDirectory, controlPath }: JournaledTap): string =>
  JSON.stringify([name, directory, headDirectory, controlPath]);

const isoOf = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

function viewOf(journals: TapJournals, { device, choice }: Aim): JournalView {
  const base = { device, tap: journals.tap.name, shippedThrough: null, lagMs: null, brokenAt: null };
  if ('problem' in choice) return { ...base, receiver: null, state: 'refused', problem: choice.problem };
  const { newest, problem } = journals;
  const { receiver } = choice;
  if (problem !== null) return { ...base, receiver, state: 'behind', problem };
  if (newest === null) return { ...base, receiver, state: 'none', problem: null };
  const shipper = newest.shipperOf(choice.key);
  const failure = shipper?.shipping.failure?.reason ?? null;
  const shipped = {
    ...{ ...base, receiver, shippedThrough: isoOf(shipper?.shippedThroughMs ?? null) },
    lagMs: journals.lagMs(choice.key),
  };
  if (newest.head.state === 'broken') {
    const { reason, brokenStamp } = newest.head;
    const why = `it broke, because ${reason}; the next point begins a new one`;
    return { ...shipped, state: 'broken', brokenAt: isoOf(stampMs(brokenStamp)), problem: why };
  }
  const wrong = failure ?? (journals.isServed ? null : 'its tap does not run');
  return { ...shipped, state: wrong === null ? 'shipped' : 'behind', problem: wrong };
}
