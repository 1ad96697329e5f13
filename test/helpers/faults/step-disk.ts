/** A disk that fails at the Nth of its steps from `start` on. */
import type { ExecutionContext } from 'ava';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { tempDir } from '../disks/temp-dir.js';
import { plainRandom } from '../seed.js';
import { type Fault, FaultyDisk, PowerLossDisk } from './disk.js';

export class StepDisk {
  readonly disk: Disk;
  readonly #beneath: PowerLossDisk | null;
  readonly #failing: number;
  #isCounting = false;
  #counted = 0;
  #fired: string | null = null;

  private constructor(failing: number, fault: Fault, beneath: PowerLossDisk | null) {
    this.#failing = failing;
    this.#beneath = beneath;
    this.disk = new FaultyDisk(beneath ?? nodeDisk, ({ name, path }) => {
      if (!this.#isCounting) return null;
      this.#counted += 1;
      if (this.#counted !== failing) return null;
      this.#fired = `step ${failing}, ${name} ${path}`;
      return fault;
    });
  }

  /** @param hasPowerCut its power may be lost afterwards */
  static async make(
    t: ExecutionContext,
    failing: number,
    fault: Fault,
    hasPowerCut = false,
  ): Promise<StepDisk> {
    return new StepDisk(failing, fault, hasPowerCut ? new PowerLossDisk(await tempDir(t)) : null);
  }

  start(): void {
    this.#isCounting = true;
  }

  /** Where it failed; null: there were not so many steps. */
  get fired(): string | null {
    return this.#fired;
  }

  /** @param kept part of what was not synced that is there afterwards */
  async losePower(kept: number): Promise<void> {
    await this.#beneath?.losePower(kept, plainRandom(this.#failing));
  }
}
