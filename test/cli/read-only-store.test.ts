/**
 * A store that this user or this mount can't write to: everything that reads works; a backup is
 * refused for the true reason.
 */

import { spawnSync } from 'node:child_process';
import { chmod, readFile, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../src/domain/base/limits.js';
import { attachLoop, mount, run as runProgram } from '../helpers/disks/loop-device.js';
import {
  backup,
  COMMAND,
  type Machine,
  makeMachine,
  run,
  runExpecting,
} from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';

type Outcome = { readonly code: number | null; readonly stderr: string };

async function checkReading(
  t: ExecutionContext,
  store: string,
  image: string,
  place: string,
  stillpoint: (...args: string[]) => Promise<Outcome>,
): Promise<void> {
  const out = join(place, 'out');
  for (const args of [
    ['points'],
    ['points', '--partial'],
    ['verify'],
    ['diff', 'a@1', 'a@2'],
    ['restore', 'a@2', out],
    ['compare', image, 'a@2', '--name', 'a'],
  ]) {
    const { code, stderr } = await stillpoint(...args, '--store', store);
    t.is(code, 0, `${args.join(' ')}: ${stderr}`);
  }
  t.deepEqual(await readFile(out), await readFile(image));
}

async function makeStore(t: ExecutionContext, machine: Machine, store: string): Promise<string> {
  const image = join(machine.directory, 'image');
  await writeFile(image, Buffer.alloc(200_000, 'a'));
  await backup(t, machine, store, image, '--name', 'a');
  await writeFile(image, Buffer.alloc(200_000, 'b'));
  await backup(t, machine, store, image, '--name', 'a');
  return image;
}

testWith(['root', 'loop', ...programs('mkfs.ext4')], 'a store on a read-only file system', async (t) => {
  const machine = await makeMachine(t);
  const [disk, mountPoint] = [join(machine.directory, 'fs'), join(machine.directory, 'm')];
  await writeFile(disk, '');
  await truncate(disk, 48 * MiB);
  runProgram('mkfs.ext4', '-q', disk);
  await mount(t, attachLoop(t, disk), mountPoint);
  const store = join(mountPoint, 'store');
  const image = await makeStore(t, machine, store);
  runProgram('mount', '-o', 'remount,ro', mountPoint);
  await checkReading(t, store, image, machine.directory, (...args) => run(machine, ...args));
  const refused = await run(machine, 'backup', image, '--name', 'a', '--store', store);
  t.not(refused.code, 0);
  t.regex(
    refused.stderr,
    /it lies on a read-only file system, and this command writes to it\. Mount it writable/,
  );
  // Without its index too.
  runProgram('mount', '-o', 'remount,rw', mountPoint);
  runProgram('rm', '-r', join(store, 'index'));
  runProgram('mount', '-o', 'remount,ro', mountPoint);
  await runExpecting(t, machine, 0, 'verify', '--store', store);
});

testWith(['root', ...programs('setpriv')], 'a store that this user may read and not write', async (t) => {
  const machine = await makeMachine(t, 'reader', tmpdir());
  const store = join(machine.directory, 'store');
  const image = await makeStore(t, machine, store);
  await chmod(machine.directory, 0o755);
  runProgram('chmod', '-R', 'a+rX', store);
  const other = await makeMachine(t, 'other', tmpdir());
  for (const directory of [other.directory, other.stateDirectory])
    runProgram('chown', '65534:65534', directory);
  const asNobody = async (...args: string[]): Promise<Outcome> => {
    const { status, stderr } = spawnSync(
      'setpriv',
      ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, COMMAND, ...args],
      { env: other.env, cwd: other.directory, encoding: 'utf8' },
    );
    return { code: status, stderr };
  };
  await checkReading(t, store, image, other.directory, asNobody);
  const refused = await asNobody('backup', image, '--name', 'a', '--store', store);
  t.not(refused.code, 0);
  t.regex(
    refused.stderr,
    /this user may not write to it \(EACCES for .*lock\)\. Run the command as the store's owner/,
  );
});
