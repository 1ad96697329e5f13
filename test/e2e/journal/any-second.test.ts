/**
 * A tap with a journal, an agent that ships it, a receiver: while a program writes numbers, one after the
 * other, the agent and the receiver are killed, and backups go on. Afterwards any moment is restored: it has
 * all that was answered before it, and nothing that was issued after it.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { EXIT_OK } from '../../../src/cli/output/exit-codes.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { NbdWriter } from '../../helpers/disks/nbd-writer.js';
import { endAgent, startAgent, type WaitingAgent } from '../../helpers/machines/agent.js';
import {
  enroll,
  killReceiver,
  type Receiver,
  serve,
  startReceiver,
} from '../../helpers/machines/receiver.js';
import { lastResult, type Machine, makeMachine, runExpecting } from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG, seededRandom } from '../../helpers/seed.js';
import { type Tapped, tapped } from '../../helpers/worlds/tapped.js';

const SIZE_BYTES = 64 * MiB;
const SLOT_BYTES = 4 * KiB;
const SLOTS = 509;
const MOMENTS = LONG ? 60 : 8;

/** Writes its numbers, each to a slot that many others are written to, too, and remembers when. */
class NumberWriter {
  readonly issuedMs: number[] = [];
  readonly answeredMs: number[] = [];
  readonly #client: NbdWriter;
  #isOver = false;
  #ended: Promise<void> = Promise.resolve();

  constructor(client: NbdWriter) {
    this.#client = client;
  }

  static slotOf(n: number): number {
    return (n * 31) % SLOTS;
  }

  start(): void {
    this.#isOver = false;
    this.#ended = this.#write();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#ended;
  }

  async #write(): Promise<void> {
    while (!this.#isOver) {
      const n = this.issuedMs.length;
      const bytes = Buffer.alloc(SLOT_BYTES);
      for (let at = 0; at < SLOT_BYTES; at += 8) bytes.writeDoubleLE(n + 1, at);
      this.issuedMs.push(Date.now());
      await this.#client.write(NumberWriter.slotOf(n) * SLOT_BYTES, bytes);
      this.answeredMs.push(Date.now());
      await sleep(2);
    }
  }
}

/** @returns up to which number all are there; null: it is no state that the program ever left */
function prefixOf(image: Buffer): number | null {
  const slots = Array.from({ length: SLOTS }, (_, slot) => slot * SLOT_BYTES);
  const last = Math.max(...slots.map((at) => image.readDoubleLE(at)));
  const expected = new Map<number, number>();
  for (let n = 0; n < last; n += 1) expected.set(NumberWriter.slotOf(n), n + 1);
  const isWhole = slots.every((at, slot) => {
    const number = expected.get(slot) ?? 0;
    for (let byte = at; byte < at + SLOT_BYTES; byte += 8)
      if (image.readDoubleLE(byte) !== number) return false;
    return true;
  });
  return isWhole ? last : null;
}

interface Span {
  readonly from: string;
  readonly to: string;
  readonly state: string;
}

class World {
  readonly writer: NumberWriter;
  readonly #t: ExecutionContext;
  readonly #machine: Machine;
  readonly #receiver: Receiver;
  readonly #tap: Tapped;
  #agent: WaitingAgent;

  private constructor(
    t: ExecutionContext,
    parts: { machine: Machine; receiver: Receiver; tap: Tapped; client: NbdWriter },
  ) {
    this.#t = t;
    this.#machine = parts.machine;
    this.#receiver = parts.receiver;
    this.#tap = parts.tap;
    this.writer = new NumberWriter(parts.client);
    this.#agent = startAgent(t, parts.machine, ['run']);
  }

  static async make(t: ExecutionContext): Promise<World> {
    const receiver = await startReceiver(t);
    const machine = await makeMachine(t, 'any-second');
    await enroll(t, receiver, machine, 'db');
    const tap = await tapped(t, { machine, sizeBytes: SIZE_BYTES, args: ['--journal'] });
    const config = join(machine.stateDirectory, 'config');
    await mkdir(config, { recursive: true });
    await writeFile(join(config, 'agent.toml'), `[[device]]\nname = "disk"\npath = "${tap.source}"\n`);
    const { listen, exportName } = tap.settings;
    const client = await NbdWriter.connect((listen[0] ?? '').replace(/^unix:/, ''), exportName);
    t.teardown(() => client.close());
    return new World(t, { machine, receiver, tap, client });
  }

  async backup(): Promise<Point> {
    const command = ['backup', this.#tap.source, '--name', 'disk', '--json'];
    const { stdout } = await runExpecting(this.#t, this.#machine, EXIT_OK, ...command);
    return lastResult<{ point: Point }>(stdout).point;
  }

  async killAgent(): Promise<void> {
    await endAgent(this.#agent, 'SIGKILL');
    await sleep(500);
    this.#agent = startAgent(this.#t, this.#machine, ['run']);
  }

  async killReceiver(): Promise<void> {
    await killReceiver(this.#receiver);
    await sleep(500);
    await serve(this.#receiver);
  }

  async spans(): Promise<Span[]> {
    const { stdout } = await runExpecting(this.#t, this.#machine, EXIT_OK, 'points', '--journal', '--json');
    return lastResult<{ spans: Span[] }>(stdout).spans;
  }

  async until(what: string, holds: (spans: Span[]) => boolean): Promise<Span[]> {
    for (const endMs = Date.now() + 120_000; Date.now() < endMs; await sleep(200)) {
      const spans = await this.spans();
      if (holds(spans)) return spans;
    }
    throw new Error(
      `never: ${what}\n${JSON.stringify(await this.spans())}\n${this.#agent.log}\n${this.#receiver.log}`,
    );
  }

  /** @returns up to which number the state of this moment has all */
  async restored(timeMs: number): Promise<number | null> {
    const target = this.#tap.at('restored');
    const name = `disk@${new Date(timeMs).toISOString()}`;
    await runExpecting(this.#t, this.#machine, EXIT_OK, 'restore', name, target, '--overwrite', '--json');
    return prefixOf(await readFile(target));
  }
}

testWith(programs('qemu-io'), 'any moment has what was answered before it, whatever died', async (t) => {
  const random = seededRandom(t);
  const world = await World.make(t);
  const { writer } = world;
  await world.backup();
  writer.start();
  await sleep(1_500);
  await world.killAgent();
  await sleep(1_500);
  const second = await world.backup();
  t.truthy(second.journal);
  await world.killReceiver();
  await sleep(1_500);
  await world.backup();
  await sleep(1_500);
  await writer.stop();
  const lastMs = writer.answeredMs.at(-1) ?? 0;
  await world.until('all is shipped', (spans) => Date.parse(spans.at(-1)?.to ?? '') >= lastMs - 1);
  const spans = await world.until('audited', (now) => now.some(({ state }) => state === 'audited'));
  t.false(spans.some(({ state }) => state === 'faulty'));

  const firstMs = writer.issuedMs[0] ?? 0;
  for (let moment = 0; moment < MOMENTS; moment += 1) {
    const timeMs = firstMs + random.below(lastMs - firstMs);
    const number = await world.restored(timeMs);
    if (number === null) return t.fail(`at ${timeMs} it is no state that the program left`);
    // All that was answered before the end of this millisecond; nothing that was issued after it.
    t.true((writer.issuedMs[number - 1] ?? 0) <= timeMs + 1, `${number} was written after ${timeMs}`);
    t.true(
      (writer.answeredMs[number] ?? Number.MAX_VALUE) >= timeMs,
      `${number + 1} is missing at ${timeMs}`,
    );
  }
  t.is(await world.restored(Date.now()), writer.answeredMs.length, 'the last of all');
});
