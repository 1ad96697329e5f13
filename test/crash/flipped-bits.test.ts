/**
 * One bit flips somewhere in a file of the store. `verify` finds it and names the file; a restore gives the
 * right bytes or fails; a cache heals itself.
 */
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { verifyAudit } from '../../src/receiver/audit/read.js';
import { filesBelow, flipBit } from '../helpers/disks/images.js';
import { listSteps, runFaulty } from '../helpers/faults/at-step.js';
import { killReceiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import { EXIT_DAMAGED, IN_MEMORY, run, runHere } from '../helpers/machines/stillpoint.js';
import { LONG, type Random, seededRandom } from '../helpers/seed.js';
import { makeWorld, remember, type World } from '../helpers/worlds/crash.js';

/** Offsets in every part of a file: its first and last bytes, and some between. */
async function chooseOffsets(random: Random, path: string, count: number): Promise<number[]> {
  const { size } = await stat(path);
  const offsets = [random.below(Math.min(64, size)), size - 1 - random.below(Math.min(96, size))];
  while (offsets.length < count) offsets.push(random.below(size));
  return offsets;
}

/** Both points: the bytes are right, or there is an error and no target that could pass for whole. */
async function checkNeverSilent(t: ExecutionContext, world: World, label: string): Promise<number> {
  let failures = 0;
  for (const [index, content] of world.contents.entries()) {
    const target = join(world.machine.directory, 'restored');
    await rm(target, { force: true });
    const result = await runHere(
      world.machine,
      'restore',
      `disk@${index + 1}`,
      target,
      '--store',
      world.store,
      '--json',
    );
    const restored = await readFile(target).catch(() => null);
    if (result.code === 0) {
      if (restored === null || !restored.equals(content))
        t.fail(`${label}: disk@${index + 1} restores wrong bytes silently`);
    } else {
      failures += 1;
      if (restored !== null) t.fail(`${label}: a failed restore leaves a target behind`);
      t.regex(result.stdout, /"event":"error"/, label);
    }
  }
  return failures;
}

async function twoPoints(t: ExecutionContext): Promise<World> {
  const world = await makeWorld(t, true);
  const second = await runHere(world.machine, ...world.backupArgs);
  t.is(second.code, 0, second.stdout);
  return world;
}

test('packs, points and the store’s name: verify finds the flip and names the file', async (t) => {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const world = await twoPoints(t);
  const files = (await filesBelow(world.store)).filter((path) =>
    /\/(packs|points)\/|store\.json$/.test(path),
  );
  t.true(files.filter((path) => path.includes('/packs/')).length >= 4, 'data and tree packs of both points');
  t.is(files.filter((path) => path.includes('/points/')).length, 2);
  const reset = await remember(world);
  for (const path of files) {
    for (const byteOffset of await chooseOffsets(random, path, LONG ? 60 : 4)) {
      for (const indexToo of [false, true]) {
        const where = await flipBit(path, random, byteOffset);
        // Without its index the store is read anew at opening, damage and all.
        if (indexToo) await rm(join(world.store, 'index'), { recursive: true });
        const name = relative(world.store, path);
        const label = `${name}, ${where}${indexToo ? ', no index' : ''}`;
        const verified = await runHere(world.machine, 'verify', '--store', world.store, '--json');
        // A flip may make a version of another: then the file is refused for that.
        if (verified.code !== EXIT_DAMAGED && !verified.stdout.includes('"code":"version"'))
          t.fail(`${label}: verify ends with ${verified.code}\n${verified.stdout}`);
        const named = path.split('/').at(-1) ?? name;
        if (!verified.stdout.includes(named)) t.fail(`${label}: not named\n${verified.stdout}`);
        await checkNeverSilent(t, world, label);
        await reset();
      }
    }
  }
  t.is(await checkNeverSilent(t, world, 'undamaged'), 0);
});

test('the capture of an open session: no committed point minds, and the next backup is right', async (t) => {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const world = await makeWorld(t, true);
  const before = await remember(world);
  const steps = await listSteps(world.machine, world.backupArgs);
  await before();
  // Killed where the manifest would appear: everything else of the session is there.
  const commit = steps.findLastIndex((step) => /^(rename|link|open) .*points/.test(step));
  t.true(commit > 0, steps.join('\n'));
  let files: string[] = [];
  for (let at = commit; at > 0 && files.length < 3; at -= 1) {
    await before();
    await runFaulty(world.machine, { fault: 'kill', at }, world.backupArgs);
    files = await filesBelow(join(world.store, 'capture'));
  }
  t.true(files.length >= 3, `description, log and pack or overlay: ${files.join(', ')}`);
  const reset = await remember(world);
  for (const path of files) {
    for (const byteOffset of await chooseOffsets(random, path, LONG ? 60 : 4)) {
      const where = await flipBit(path, random, byteOffset);
      const label = `${relative(world.store, path)}, ${where}`;
      const backedUp = await runHere(world.machine, ...world.backupArgs);
      if (backedUp.code !== 0) t.fail(`${label}: ${backedUp.stdout}`);
      if ((await checkNeverSilent(t, world, label)) > 0) t.fail(`${label}: a point does not restore`);
      await reset();
    }
  }
});

test('the agent’s own files: what is damaged is fetched again or refused by name', async (t) => {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const world = await makeWorld(t, true);
  const reset = await remember(world);
  const files = (await filesBelow(world.machine.stateDirectory)).filter((path) => !path.endsWith('/lock'));
  t.true(files.length > 0);
  for (const path of files) {
    for (const byteOffset of await chooseOffsets(random, path, LONG ? 60 : 10)) {
      const where = await flipBit(path, random, byteOffset);
      const label = `${relative(world.machine.stateDirectory, path)}, ${where}`;
      const backedUp = await runHere(world.machine, ...world.backupArgs);
      if (backedUp.code !== 0) t.fail(`${label}: ${backedUp.stdout}`);
      if ((await checkNeverSilent(t, world, label)) > 0) t.fail(`${label}: a point does not restore`);
      await reset();
    }
  }
});

test('the index is a cache: damaged it gives nothing wrong, and without it all is there', async (t) => {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const world = await twoPoints(t);
  const reset = await remember(world);
  const path = join(world.store, 'index', 'data.mdb');
  for (let round = 0; round < (LONG ? 200 : 8); round += 1) {
    const where = await flipBit(path, random);
    const label = `index, ${where}`;
    for (const [index, content] of world.contents.entries()) {
      const target = join(world.machine.directory, 'restored');
      await rm(target, { force: true });
      // In a process of its own: LMDB trusts its file, and may take the process down.
      const args = ['restore', `disk@${index + 1}`, target, '--store', world.store];
      const result = await run(world.machine, ...args);
      if (result.code === 0 && !(await readFile(target)).equals(content)) t.fail(`${label}: wrong bytes`);
    }
    await rm(join(world.store, 'index'), { recursive: true });
    if ((await checkNeverSilent(t, world, label)) > 0) t.fail(`${label}: lost without the index`);
    await reset();
  }
  t.pass();
});

/** What is kept twice has been mended; the audit log says itself that it was changed. */
async function isNoticed(store: string, path: string, whole: Buffer): Promise<boolean> {
  if (!path.includes('/audit/')) return (await readFile(path)).equals(whole);
  const { faults, tornBytes } = await verifyAudit(store);
  return faults.length + tornBytes > 0 || /log-(recovered|damaged)/.test(await readFile(path, 'utf8'));
}

test('the receiver’s own files: serve names what is damaged, or makes it anew', async (t) => {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const receiver = await startReceiver(t, IN_MEMORY);
  await killReceiver(receiver);
  const directory = join(receiver.store, 'receiver');
  const files = await filesBelow(directory);
  t.true(files.length >= 3, files.join(', '));
  for (const path of files) {
    const whole = await readFile(path);
    for (const byteOffset of await chooseOffsets(random, path, LONG ? 40 : 3)) {
      const where = await flipBit(path, random, byteOffset);
      const from = receiver.log.length;
      const serves = await serve(receiver).then(
        () => true,
        () => false,
      );
      await killReceiver(receiver);
      const told = receiver.log.slice(from);
      const name = path.split('/').at(-1) ?? path;
      if (!serves && !told.includes(name)) t.fail(`${name}, ${where}: refused, but not named\n${told}`);
      // The line feed at the end and a lock mean nothing; the server's certificate can be made anew.
      const harmless = byteOffset === whole.length - 1 || ['server.json', 'lock'].includes(name);
      if (serves && !harmless && !(await isNoticed(receiver.store, path, whole)))
        t.fail(`${name}, ${where}: not noticed`);
      await writeFile(path, whole);
    }
  }
});
