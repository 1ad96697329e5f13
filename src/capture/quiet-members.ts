/** The quiet that was asked for, over all members of an instant. */
import { stat } from 'node:fs/promises';
import { deviceNumber } from '../devices/system/in-use.js';
import type { Member } from './ports.js';
import { counterWatch, type QuietWatch, quietBySamples, waitUntilQuiet } from './quiesce/quiet.js';

export class QuietMembers {
  readonly #members: readonly Member[];
  readonly #quietMs: number;
  #watches: Promise<QuietWatch[]> | null = null;
  /** Of members that don't know how long they are quiet. */
  readonly #counted: (QuietWatch & { readonly path: string })[] = [];

  constructor(members: readonly Member[], quietMs: number) {
    this.#members = members;
    this.#quietMs = quietMs;
  }

  /** @throws StillpointError: not found in that time */
  async wait(thing: string, deadlineMs: number, signal: AbortSignal): Promise<void> {
    this.#watches ??= this.#watch();
    await waitUntilQuiet(thing, await this.#watches, { quietMs: this.#quietMs, deadlineMs, signal });
  }

  /** @param quietsMs of each member when it had closed; null: it does not know */
  isQuiet(quietsMs: readonly (number | null)[]): boolean {
    return quietsMs.every((quietMs) => quietMs === null || quietMs >= this.#quietMs);
  }

  /** @returns warnings: the kernel counted writes since they were waited for */
  async whoWrote(): Promise<string[]> {
    const broken = await Promise.all(
      this.#counted.map(async ({ path, quietMs }) => {
        const isQuiet = (await quietMs().catch(() => 0)) >= this.#quietMs;
        return isQuiet ? [] : [`${path} was written to while the instant was taken`];
      }),
    );
    return broken.flat();
  }

  async #watch(): Promise<QuietWatch[]> {
    const watches: QuietWatch[] = [];
    for (const member of this.#members) {
      const { path, barrier } = member;
      if (barrier === 'unused') continue;
      if (member.quietMs !== undefined) {
        watches.push({ quietMs: () => member.quietMs?.() ?? Promise.resolve(0) });
        continue;
      }
      const number = deviceNumber((await stat(path, { bigint: true })).rdev);
      this.#counted.push({ path, ...quietBySamples(counterWatch(path, number)) });
    }
    return [...watches, ...this.#counted];
  }
}
