/** Every exit code, from the real command. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXITS } from '../../src/cli/output/exit-codes.js';
import { RECORD_KIND_BLOCK } from '../../src/native/index.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { flipRecords } from '../helpers/faults/pack-damage.js';
import { type Machine, makeMachine, run, runHere, start } from '../helpers/machines/stillpoint.js';

const CONTENT = Buffer.alloc(64 * 1024, 'stillpoint');

interface Scene {
  readonly machine: Machine;
  readonly store: string;
  readonly image: string;
}

/** A device with one point. */
async function makeScene(t: ExecutionContext, content = CONTENT): Promise<Scene> {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, content);
  t.is((await runHere(machine, 'backup', image, '--name', 'disk', '--store', store)).code, 0);
  return { machine, store, image };
}

async function exitOf(machine: Machine, ...args: string[]): Promise<number | null> {
  return (await run(machine, ...args)).code;
}

/** A restore that nobody reads is under way until it is stopped. */
async function exitAfter(t: ExecutionContext, signal: 'SIGINT' | 'SIGTERM'): Promise<unknown> {
  const { machine, store } = await makeScene(t, Buffer.alloc(8_000_000, 'more than any pipe takes '));
  const child = start(machine, ['restore', 'disk@1', '-', '--store', store]);
  await once(child.stdout ?? t.fail(), 'readable');
  const ended = once(child, 'exit');
  child.kill(signal);
  const [code] = await ended;
  child.stdout?.destroy();
  return code;
}

/** What makes each: the type asks for all of them. */
const MADE_BY: Record<keyof typeof EXITS, (t: ExecutionContext) => Promise<unknown>> = {
  ok: async (t) => exitOf(await makeMachine(t), '--version'),
  failed: async (t) => {
    const machine = await makeMachine(t);
    return exitOf(machine, 'backup', join(machine.directory, 'absent.img'), '--store', machine.directory);
  },
  usage: async (t) => exitOf(await makeMachine(t), 'backup'),
  warnings: async (t) => {
    const { machine, store, image } = await makeScene(t);
    await flipRecords(store, RECORD_KIND_BLOCK, PLAIN.leafDigest(CONTENT));
    return exitOf(machine, 'compare', image, '--name', 'disk', '--store', store, '--deep', '--ship');
  },
  damaged: async (t) => {
    const { machine, store } = await makeScene(t);
    await flipRecords(store, RECORD_KIND_BLOCK, PLAIN.leafDigest(CONTENT));
    return exitOf(machine, 'verify', '--store', store);
  },
  noAccess: async (t) => exitOf(await makeMachine(t), 'points'),
  differs: async (t) => {
    const { machine, store, image } = await makeScene(t);
    await writeFile(image, Buffer.alloc(CONTENT.length, 'another'));
    return exitOf(machine, 'compare', image, 'disk@1', '--store', store);
  },
  incomplete: async (t) => {
    const { machine, store } = await makeScene(
      t,
      Buffer.concat([CONTENT, Buffer.alloc(CONTENT.length, 'whole')]),
    );
    await flipRecords(store, RECORD_KIND_BLOCK, PLAIN.leafDigest(CONTENT));
    return exitOf(machine, 'restore', 'disk@1', `${store}.img`, '--store', store, '--skip-bad');
  },
  interrupted: (t) => exitAfter(t, 'SIGINT'),
  terminated: (t) => exitAfter(t, 'SIGTERM'),
};

for (const [name, make] of Object.entries(MADE_BY)) {
  test(`the command ends with the code of ${name}`, async (t) => {
    t.is(await make(t), EXITS[name as keyof typeof EXITS].code);
  });
}
