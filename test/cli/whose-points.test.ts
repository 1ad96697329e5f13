/**
 * A receiver's directory is opened where the receiver is gone: whose points there are,
 * and how they are restored.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_OK } from '../../src/cli/output/exit-codes.js';
import type { Point } from '../../src/domain/point/point.js';
import { openEmbeddedReceiver } from '../../src/receiver/embedded.js';
import { createStore, openStore } from '../../src/store/open.js';
import { blocksOf } from '../conformance/receiver.js';
import { batchOf, rootOf } from '../helpers/bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY, sessionId } from '../helpers/bytes/requests.js';
import { lastResult, type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';

const DEVICES = [
  ['m1', 'root'],
  ['m1', 'data'],
  ['m2', 'data'],
] as const;

async function makeDirectory(t: ExecutionContext): Promise<{ machine: Machine; store: string }> {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  await createStore(store);
  for (const [at, [agent, device]] of DEVICES.entries()) {
    const receiver = await openEmbeddedReceiver(store, { agent, openStore });
    const id = sessionId(at + 1);
    const blocks = blocksOf([0, 1], at);
    await receiver.begin(beginRequest({ sessionId: id, device }));
    await receiver.batch(id, 1, batchOf(id, 1, blocks));
    await receiver.commit(id, commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, blocks) }));
    await receiver.close();
  }
  return { machine, store };
}

test('all points are listed, and named so that each name restores its own point', async (t) => {
  const { machine, store } = await makeDirectory(t);
  const image = join(machine.directory, 'own.img');
  await writeFile(image, Buffer.alloc(70_000, 'stillpoint'));
  t.is((await runHere(machine, 'backup', image, '--name', 'root', '--store', store)).code, EXIT_OK);
  const listed = await runHere(machine, 'points', '--store', store);
  const names = listed.stdout
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => line.split(' ')[0] ?? '');
  t.deepEqual(names.sort(), ['m1/data@1', 'm1/root@1', 'm2/data@1', 'root@1']);
  const { stdout } = await runHere(machine, 'points', '--store', store, '--json');
  const all = lastResult<{ points: Point[] }>(stdout).points;
  t.is(all.length, 4);
  for (const name of names) {
    const target = join(machine.directory, name.replace('/', '-'));
    const restored = await runHere(machine, 'restore', name, target, '--store', store, '--json');
    t.is(restored.code, EXIT_OK, restored.stderr);
    const { point } = lastResult<{ point: Point }>(restored.stdout);
    t.is(name, `${point.agent === 'local' ? '' : `${point.agent}/`}${point.device}@1`);
  }
  t.deepEqual(await readFile(join(machine.directory, 'root@1')), await readFile(image));
  const one = await runHere(machine, 'points', 'm2/data', '--store', store);
  t.is(one.stdout.trimEnd().split('\n').length, 2);
  t.is((await runHere(machine, 'diff', 'm1/data@1', 'm2/data@1', '--store', store)).code, EXIT_OK);
  t.is((await runHere(machine, 'verify', 'm2/data@1', '--store', store)).code, EXIT_OK);
});

test('a device that one agent has needs no agent; one that several have is asked about; who has none is told who has', async (t) => {
  const { machine, store } = await makeDirectory(t);
  const restore = (...args: string[]) =>
    runHere(machine, 'restore', ...args, '--store', store, '--overwrite');
  const target = join(machine.directory, 'out');
  t.is((await restore('root@1', target)).code, EXIT_OK);
  const several = await restore('data@latest', target);
  t.not(several.code, EXIT_OK);
  t.regex(
    several.stderr,
    /2 agents have a device of this name: m1, m2\. Say whose, like m1\/data@latest, or with --agent m1\./,
  );
  t.is((await restore('data@latest', target, '--agent', 'm2')).code, EXIT_OK);
  const nobody = await restore('data@1', target, '--agent', 'm9');
  t.regex(nobody.stderr, /agent m9: the store has no point of it\. Agents with points: m1, m2\./);
  const none = await runHere(machine, 'points', '--store', store, '--agent', 'm9');
  t.is(none.stdout, 'There are no points of agent m9. Agents with points: m1, m2.\n');
  const own = await runHere(machine, 'points', '--store', store, '--agent', 'm1');
  t.regex(own.stdout, /^root@1 /m, 'whose they are is said already');
});
