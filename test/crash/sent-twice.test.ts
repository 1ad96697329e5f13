/**
 * A first backup over TLS whose agent, receiver or link dies at random moments: what was durable is not sent
 * again. Bytes are counted by a relay between the two, so nobody's word is taken for it.
 */
import { randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BATCH_RAW_BYTES_TARGET, BATCH_WINDOW, KiB, MiB } from '../../src/domain/base/limits.js';
import type { PartialSet } from '../../src/domain/session/messages.js';
import { difference } from '../helpers/disks/images.js';
import { enroll, killReceiver, type Receiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import { Relay } from '../helpers/machines/relay.js';
import {
  backup,
  lastResult,
  type Machine,
  makeMachine,
  outcome,
  points,
  restore,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const SIZE = 96 * MiB;
const ROUNDS = LONG ? 12 : 2;
const DEATHS = 2;
/**
 * What is under way when something dies, and what it costs to begin again: handshakes, questions, entries.
 */
const WINDOW_BYTES = BATCH_WINDOW * BATCH_RAW_BYTES_TARGET;
const SLACK_BYTES = 256 * KiB;

interface World {
  readonly receiver: Receiver;
  readonly relay: Relay;
  readonly machine: Machine;
  readonly source: string;
}

async function makeWorld(t: ExecutionContext): Promise<World> {
  const receiver = await startReceiver(t);
  const relay = await Relay.start(t, Number(new URL(receiver.url).port));
  const machine = await makeMachine(t, 'agent');
  await enroll(t, { ...receiver, url: relay.url }, machine, 'agent');
  return { receiver, relay, machine, source: join(machine.directory, 'source') };
}

/** Of content that nothing compresses and no receiver has. */
async function newImage({ source }: World): Promise<void> {
  const file = await open(source, 'w');
  for (let at = 0; at < SIZE; at += 8 * MiB) await file.write(randomBytes(8 * MiB));
  await file.close();
}

const victims = ['agent', 'receiver', 'link'] as const;

for (const victim of victims) {
  test.serial(`bytes sent twice when the ${victim} dies`, async (t) => {
    t.timeout(30 * 60_000);
    const random = seededRandom(t);
    const world = await makeWorld(t);
    const { relay, machine, receiver, source } = world;
    await newImage(world);
    relay.reset();
    await backup(t, machine, null, source, '--name', 'clean');
    const cleanBytes = relay.sentBytes;
    let most = 0;
    for (let round = 1; round <= ROUNDS; round += 1) {
      const name = `disk${round}`;
      const args = ['backup', source, '--name', name];
      await newImage(world);
      relay.reset();
      let child = start(machine, args);
      let ended = outcome(child);
      const sessions = new Set<string>();
      for (let death = 1; death <= DEATHS; death += 1) {
        const at = Math.round((cleanBytes * (death - 1 + 0.1 + 0.8 * (random.below(1000) / 1000))) / DEATHS);
        await Promise.race([relay.reached(at), ended]);
        if (victim === 'link') relay.cut();
        if (victim === 'receiver') {
          await killReceiver(receiver);
          await serve(receiver);
        }
        if (victim === 'agent') {
          child.kill('SIGKILL');
          t.is((await ended).signal, 'SIGKILL', `round ${round}, death ${death}`);
          const { stdout } = await runHere(machine, 'points', '--partial', name, '--json');
          for (const set of lastResult<{ partialSets: PartialSet[] }>(stdout).partialSets)
            sessions.add(set.sessionId);
          child = start(machine, args);
          ended = outcome(child);
        }
      }
      const result = await ended;
      t.is(result.code, 0, result.stderr);
      const twice = relay.sentBytes - cleanBytes;
      most = Math.max(most, twice / DEATHS);
      t.true(
        twice <= DEATHS * (WINDOW_BYTES + SLACK_BYTES),
        `round ${round}: ${twice} bytes twice, ${DEATHS} deaths of the ${victim}`,
      );
      const point = (await points(t, machine, null)).find(({ device }) => device === name);
      if (victim === 'agent') t.deepEqual([...sessions], [point?.id], 'all in one session');
      await rm(join(machine.directory, 'restored'), { force: true });
      await restore(t, machine, null, `${name}@latest`, join(machine.directory, 'restored'));
      t.is(difference(join(machine.directory, 'restored'), source), null);
    }
    t.log(
      `${(most / MiB).toFixed(2)} MiB twice for a death, in the worst round; the window is ${WINDOW_BYTES / MiB} MiB`,
    );
  });
}
