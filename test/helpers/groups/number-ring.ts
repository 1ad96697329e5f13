/**
 * Devices that a program writes ascending numbers to in turn, each write after the answer to the one before.
 * Each device has room for its last numbers only, so that it may go on for hours. Images of one moment have
 * exactly the last numbers up to some number, whichever of the devices they are of.
 */
import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const SLOT_BYTES = 4096;
/** Of each device: so much is sent at most, and can't be compressed. */
const SLOTS = 64;
const RING_BYTES = SLOT_BYTES * SLOTS;

export interface RingDevice {
  /** Resolves when it is answered. */
  readonly write: (byteOffset: number, bytes: Buffer) => Promise<void>;
}

export class NumberRing {
  readonly #devices: readonly RingDevice[];
  #answered = 0;
  #issuedAtMs: number | null = null;
  #longestMs = 0;
  #isOver = false;
  #failure: unknown = null;

  constructor(devices: readonly RingDevice[]) {
    this.#devices = devices;
  }

  get answered(): number {
    return this.#answered;
  }

  /** How long a write has waited, since it was last asked for, in ms. */
  takeLongestMs(): number {
    const waitsMs = this.#issuedAtMs === null ? 0 : performance.now() - this.#issuedAtMs;
    const longestMs = Math.max(this.#longestMs, waitsMs);
    this.#longestMs = 0;
    return longestMs;
  }

  /** Until it is stopped, or a write fails: the next `further` says so. Does not reject. */
  async run(): Promise<void> {
    try {
      await this.#write();
    } catch (error) {
      this.#failure = error;
    }
  }

  async #write(): Promise<void> {
    while (!this.#isOver) {
      const n = this.#answered + 1;
      const bytes = randomBytes(SLOT_BYTES);
      bytes.writeBigUInt64LE(BigInt(n), 0);
      this.#issuedAtMs = performance.now();
      await this.#devices[n % this.#devices.length]?.write(this.#slotOf(n) * SLOT_BYTES, bytes);
      this.#longestMs = Math.max(this.#longestMs, performance.now() - this.#issuedAtMs);
      this.#issuedAtMs = null;
      this.#answered = n;
      await sleep(1);
    }
  }

  stop(): void {
    this.#isOver = true;
  }

  /** @throws why it does not go on */
  async further(): Promise<void> {
    for (const enough = this.#answered + 10; this.#answered < enough && !this.#isOver; await sleep(5))
      if (this.#failure !== null) throw this.#failure;
  }

  /**
   * @param images by the number of their device: of some of them, or all
   * @returns the last number that they have, or what is wrong with them
   */
  async lastIn(images: ReadonlyMap<number, string>): Promise<number | string> {
    const found = new Map<number, number[]>();
    for (const [device, path] of images) found.set(device, await numbersIn(path));
    const last = Math.max(...[...found.values()].flat());
    for (const [device, numbers] of found) {
      const expected = Array.from({ length: SLOTS }, () => 0);
      const count = this.#devices.length;
      const ownLast = last - ((last - device + count) % count);
      for (let n = ownLast; n > Math.max(0, ownLast - count * SLOTS); n -= count)
        expected[this.#slotOf(n)] = n;
      const at = expected.findIndex((n, slot) => n !== numbers[slot]);
      if (at < 0) continue;
      return `the last number is ${last}, and device ${device} has ${numbers[at]} in the place of ${expected[at]}`;
    }
    return last;
  }

  #slotOf(n: number): number {
    return Math.floor(n / this.#devices.length) % SLOTS;
  }
}

async function numbersIn(path: string): Promise<number[]> {
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(RING_BYTES), 0, RING_BYTES, 0);
    return Array.from({ length: SLOTS }, (_, slot) => Number(buffer.readBigUInt64LE(slot * SLOT_BYTES)));
  } finally {
    await file.close();
  }
}
