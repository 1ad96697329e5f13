/** Scrubs, damage and repair, as a user meets them; with a receiver that serves the directory and without. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  EXIT_DAMAGED,
  EXIT_INCOMPLETE,
  EXIT_OK,
  EXIT_USAGE,
  EXIT_WARNINGS,
} from '../../src/cli/output/exit-codes.js';
import { RECORD_KIND_BLOCK } from '../../src/native/index.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { flipRecords } from '../helpers/faults/pack-damage.js';
import { killReceiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import { type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';

const BLOCK = 65_536;
const block = (seed: number) => Buffer.alloc(BLOCK, `block ${seed} `);

async function ends(machine: Machine, code: number, ...args: string[]): Promise<Record<string, unknown>> {
  const { code: found, stdout, stderr } = await runHere(machine, ...args, '--json');
  if (found !== code) throw new Error(`${args.join(' ')}: ${found} and not ${code}\n${stdout}${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
}

test('a store is read back in parts; damage is told by verify, points and restore, and is healed', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  const target = join(machine.directory, 'target.img');
  const bytes = Buffer.concat([block(1), block(2), block(3)]);
  await writeFile(image, bytes);
  const from = ['--store', store];
  await ends(machine, EXIT_OK, 'backup', image, '--name', 'disk', ...from);
  t.like(await ends(machine, EXIT_OK, 'verify', '--status', ...from), {
    checkedBytes: 0,
    lastCheckedAt: null,
  });
  t.like(await ends(machine, EXIT_OK, 'verify', '--percent', '100', '--limit-rate', '500M', ...from), {
    findingCount: 0,
    pointCount: 1,
  });
  t.like(await ends(machine, EXIT_OK, 'verify', '--status', ...from), { neverCheckedPacks: 0 });
  t.like(await ends(machine, EXIT_OK, 'verify', '--older-than', '1h', ...from), {
    checkedBytes: await small(store),
  });
  for (const what of ['disk', 'disk@1'])
    t.true(((await ends(machine, EXIT_OK, 'verify', what, ...from)).blockCount as number) === 3, what);
  t.true(
    ((await ends(machine, EXIT_OK, 'verify', 'disk', '--percent', '50', ...from)).blockCount as number) > 0,
  );
  for (const wrong of [
    ['--percent', '0', ...from],
    ['--percent', '101', ...from],
    ['--older-than', 'soon', ...from],
    ['--limit-rate', 'fast', ...from],
    ['--percent', '5'],
    ['--status'],
  ])
    t.is((await runHere(machine, 'verify', ...wrong)).code, EXIT_USAGE, wrong.join(' '));

  await flipRecords(store, RECORD_KIND_BLOCK, PLAIN.leafDigest(block(2)));
  t.like(await ends(machine, EXIT_DAMAGED, 'verify', '--older-than', '0h', ...from), { findingCount: 1 });
  t.like(await ends(machine, EXIT_DAMAGED, 'verify', '--status', ...from), {
    damage: { openCount: 1, healedCount: 0, pointCount: 1, points: ['disk@1'] },
  });
  const points = await ends(machine, EXIT_OK, 'points', ...from);
  t.like((points.damaged as object[])[0], { blockCount: 1, byteCount: BLOCK });
  t.regex((await runHere(machine, 'points', ...from)).stdout, /disk@1: DAMAGED: 64 KiB in 1 block/);
  const refused = await ends(machine, EXIT_DAMAGED, 'restore', 'disk@1', target, ...from);
  t.regex(
    JSON.stringify(refused),
    /65536 bytes of it are damaged in the store: bytes 65536 to 131071.*--skip-bad/,
  );
  await t.throwsAsync(readFile(target), { code: 'ENOENT' });
  const skipped = await ends(
    machine,
    EXIT_INCOMPLETE,
    'restore',
    'disk@1',
    target,
    '--skip-bad',
    '--verify',
    ...from,
  );
  t.like(skipped, { isComplete: false, lostRanges: [{ byteOffset: BLOCK, byteLength: BLOCK }] });
  t.true((await readFile(target)).equals(Buffer.concat([block(1), Buffer.alloc(BLOCK), block(3)])));
  const text = await runHere(machine, 'restore', 'disk@1', target, '--overwrite', '--skip-bad', ...from);
  t.regex(
    text.stdout,
    /NOT COMPLETE: 64 KiB are damaged in the store.*zeros there:\n {2}bytes 65536 to 131071\n/s,
  );

  await ends(machine, EXIT_WARNINGS, 'backup', image, '--name', 'disk', ...from);
  t.like(await ends(machine, EXIT_OK, 'verify', '--status', ...from), {
    damage: { openCount: 0, healedCount: 1, pointCount: 0 },
  });
  const healed = await ends(machine, EXIT_OK, 'restore', 'disk@1', target, '--overwrite', ...from);
  t.like(healed, { isComplete: true, differingBytes: BLOCK });
  t.true((await readFile(target)).equals(bytes));
});

/** What is read besides packs. */
async function small(store: string): Promise<number> {
  const names = ['points', 'points-copy'].map((prefix) => join(store, prefix, 'local', 'disk', '0000000001'));
  const files = await Promise.all(names.map((name) => readFile(name)));
  return files.reduce((sum, { length }) => sum + length, 0);
}

test('a receiver that serves the directory reads it back itself; repair needs it for itself', async (t) => {
  const receiver = await startReceiver(t);
  const { machine, store: dir } = receiver;
  const from = ['--store', dir];
  await killReceiver(receiver);
  t.is((await runHere(machine, 'receiver', 'init', dir, '--scrub', '7d')).code, EXIT_OK);
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, Buffer.concat([block(1), block(2)]));
  await ends(machine, EXIT_OK, 'backup', image, '--name', 'disk', ...from);
  await serve(receiver);
  t.like(await ends(machine, EXIT_OK, 'verify', ...from), { findingCount: 0, pointCount: 1, blockCount: 3 });
  const status = await ends(machine, EXIT_OK, 'verify', '--status', ...from);
  t.like(status, { periodMs: 7 * 86_400_000, neverCheckedPacks: 0 });
  t.is(typeof status.nextSliceAt, 'string');
  t.like(await ends(machine, EXIT_OK, 'verify', 'disk@1', '--older-than', '0h', ...from), {
    findingCount: 0,
  });
  t.is((await runHere(machine, 'receiver', 'repair', dir)).code, 1);
  await killReceiver(receiver);

  const manifest = join(dir, 'points', 'local', 'disk', '0000000001');
  const authority = join(dir, 'receiver', 'authority.json');
  const before = await Promise.all([manifest, authority].map((path) => readFile(path)));
  await rm(manifest);
  await writeFile(authority, 'rotten');
  await rm(join(dir, 'store.json'));
  t.regex(JSON.stringify(await ends(machine, EXIT_DAMAGED, 'verify', ...from)), /receiver repair/);
  const mended = ['store.json', 'points/local/disk/0000000001', 'receiver/authority.json'];
  for (const dryRun of [['--dry-run'], []]) {
    const repair = await ends(machine, EXIT_OK, 'receiver', 'repair', dir, ...dryRun);
    t.deepEqual(
      (repair.mended as { what: string }[]).map(({ what }) => what),
      mended,
    );
    t.deepEqual(repair.lost, []);
  }
  t.deepEqual(await Promise.all([manifest, authority].map((path) => readFile(path))), before);
  t.deepEqual((await ends(machine, EXIT_OK, 'receiver', 'repair', dir)).mended, []);
  await ends(machine, EXIT_OK, 'verify', ...from);
});
