/**
 * Lost tracking over the network, as it happens: a store that is put back to an older copy, an
 * agent that is installed anew.
 */
import { cp, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import { makeStampedImage, writeStamped } from '../helpers/bytes/stamped-blocks.js';
import { difference } from '../helpers/disks/images.js';
import { enroll, killReceiver, type Receiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import {
  EXIT_OK,
  EXIT_WARNINGS,
  lastResult,
  type Machine,
  makeMachine,
  restore,
  runExpecting,
} from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;
const SIZE = 400 * BLOCK;
/** Of one backup besides the blocks: begin, commit, digests of a tree of this size. */
const REST_BYTES_MAX = 40 * KiB;

interface Made {
  readonly point: Point;
  readonly base: { readonly start: string; readonly reason: string };
  readonly wireBytes: number;
  readonly notes: readonly string[];
}

async function change(image: string, generation: number, blockIndexes: readonly number[]): Promise<void> {
  const file = await open(image, 'r+');
  for (const blockIndex of blockIndexes) await writeStamped(file, { seed: 1, blockIndex, generation }, BLOCK);
  await file.close();
}

/** With `acceptStore` the point has a warning: the store has lost points. */
async function backup(
  t: ExecutionContext,
  machine: Machine,
  image: string,
  acceptStore: boolean = false,
): Promise<Made> {
  const args = ['backup', image, '--name', 'disk', '--compression-level', '0', '--json'];
  const code = acceptStore ? EXIT_WARNINGS : EXIT_OK;
  const more = acceptStore ? ['--accept-store'] : [];
  const { stdout } = await runExpecting(t, machine, code, ...args, ...more);
  const events = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; text?: string });
  const notes = events.flatMap(({ event, text }) => (event === 'note' && text !== undefined ? [text] : []));
  return { ...lastResult<Made>(stdout), notes };
}

interface Healing {
  readonly machine: Machine;
  readonly image: string;
  readonly blocks: number;
  readonly reason: RegExp;
  readonly acceptStore?: boolean;
}

/** @param blocks what must have been shipped */
async function healed(
  t: ExecutionContext,
  { machine, image, blocks, reason, acceptStore = false }: Healing,
): Promise<void> {
  const made = await backup(t, machine, image, acceptStore);
  t.is(made.base.start, 'compare');
  t.true(
    made.notes.some((text) => reason.test(text)),
    made.notes.join('\n'),
  );
  t.is(made.point.statistics.changedBytes, blocks * BLOCK);
  t.true(made.wireBytes < blocks * (BLOCK + 200) + REST_BYTES_MAX, `${made.wireBytes}`);
  const target = join(machine.directory, `restored-${made.point.id}`);
  await restore(t, machine, null, 'disk@latest', target);
  t.is(difference(target, image), null);
  t.is((await backup(t, machine, image)).base.start, 'use-local');
}

async function replaceStore(receiver: Receiver, copy: string): Promise<void> {
  await killReceiver(receiver);
  await rm(receiver.store, { recursive: true });
  await rename(copy, receiver.store);
  await serve(receiver);
}

testWith([], 'an older copy of the store, an agent that is installed anew, and both at once', async (t) => {
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t, 'healing');
  await enroll(t, receiver, machine, 'web');
  const image = join(machine.directory, 'disk.img');
  const blockIndexes = Array.from({ length: 300 }, (_, index) => index);
  await makeStampedImage(image, { sizeBytes: SIZE, blockSize: BLOCK, seed: 1, blockIndexes });
  await backup(t, machine, image);
  await killReceiver(receiver);
  const copies = [1, 2].map((number) => `${receiver.store}.${number}`);
  // But for the socket of the receiver that was killed.
  const filter = (path: string) => !path.endsWith('.sock');
  for (const copy of copies)
    await cp(receiver.store, copy, { recursive: true, preserveTimestamps: true, filter });
  await serve(receiver);

  const reinstall = async () => {
    await rm(machine.stateDirectory, { recursive: true });
    await mkdir(machine.stateDirectory);
    await enroll(t, receiver, machine, 'web');
  };
  await change(image, 2, [7, 350]);
  await reinstall();
  await healed(t, { machine, image, blocks: 2, reason: /comparing digests .*: there is no local tree/ });

  await change(image, 3, [8]);
  await backup(t, machine, image);
  // The certificate of the machine as it is now is none to the older copy: it has to enrol
  // again, and keeps its trees.
  await replaceStore(receiver, copies[0] ?? '');
  await enroll(t, receiver, machine, 'web');
  const reason = /comparing digests .*: the local tree is not that of the last point disk@1/;
  await healed(t, { machine, image, blocks: 3, reason, acceptStore: true });

  await replaceStore(receiver, copies[1] ?? '');
  await reinstall();
  await healed(t, { machine, image, blocks: 3, reason: /there is no local tree/ });
});
