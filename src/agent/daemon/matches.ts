/**
 * What matches wildcards. A file system that does not answer must not keep the other devices from being
 * backed up, nor use up the threads that read files: one search at a time.
 *
 * | state     | leaves by                  | to        | what counts                                |
 * |-----------|----------------------------|-----------|--------------------------------------------|
 * | idle      | a question                 | searching | -                                          |
 * | searching | its end                    | idle      | what was found                             |
 * |           | too long without an answer | stuck     | the matches that were known                |
 * | stuck     | the end of that search     | idle      | the same; what it found is of the past     |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConfiguredDevice, type ExpandedDevices, expandDevices } from '../../config/agent-config.js';
import type { DeviceMemory } from './state.js';

type Expand = (configured: readonly ConfiguredDevice[]) => Promise<ExpandedDevices>;

const ANSWER_MS = 5_000;
const STUCK = 'wildcards: a file system does not answer, so the matches that are known stay';

export class Matches {
  readonly #expand: Expand;
  readonly #answerMs: number;
  #search: Promise<ExpandedDevices> | null = null;

  constructor(expand: Expand = expandDevices, answerMs = ANSWER_MS) {
    this.#expand = expand;
    this.#answerMs = answerMs;
  }

  /** @param known for patterns that can't be looked for now */
  async of(
    configured: readonly ConfiguredDevice[],
    known: readonly DeviceMemory[],
  ): Promise<ExpandedDevices> {
    const found = this.#search === null ? await this.#searchFor(configured) : null;
    if (found !== null) return found;
    const { devices, problems } = await expandDevices(configured, known);
    return { devices, problems: [...problems, STUCK] };
  }

  async #searchFor(configured: readonly ConfiguredDevice[]): Promise<ExpandedDevices | null> {
    const search = this.#expand(configured).finally(() => {
      this.#search = null;
    });
    this.#search = search;
    search.catch(() => undefined);
    const over = new AbortController();
    const late = sleep(this.#answerMs, null, { signal: over.signal }).catch(() => null);
    return Promise.race([search, late]).finally(() => over.abort());
  }
}
