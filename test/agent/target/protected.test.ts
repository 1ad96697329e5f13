/** What a restore never writes to, by whatever way it is reached and whatever is allowed. */
import { execFile } from 'node:child_process';
import { link, mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { RestoreOptions } from '../../../src/agent/restore/restore.js';
import { refuseProtected } from '../../../src/agent/target/protected.js';
import { lockSource } from '../../../src/devices/locks/source-lock.js';
import { lockTarget } from '../../../src/devices/locks/target-lock.js';
import { createStore } from '../../../src/store/open.js';
import { addTap, lockTap } from '../../../src/tap/registry/registry.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { type RestoreWorld, restoreWorld } from '../../helpers/worlds/restore.js';
import { settingsFor } from '../../helpers/worlds/taps.js';

const ALL_ALLOWED: Partial<RestoreOptions> = { overwrite: true, allowInUse: true, allowSectorSize: true };

/** All files, and their bytes. */
async function contentOf(directory: string): Promise<Map<string, string>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const found = new Map<string, string>();
  for (const entry of entries.filter((each) => each.isFile())) {
    const path = join(entry.parentPath, entry.name);
    found.set(path, await readFile(path, 'latin1'));
  }
  return found;
}

/** Two stores, of which the command uses one; files of the state directory. */
async function world(t: ExecutionContext) {
  const made = await restoreWorld(t);
  for (const name of ['store', 'other']) {
    await mkdir(made.at(name));
    await createStore(made.at(name));
    for (const directory of ['packs', 'points', 'capture']) {
      await mkdir(made.at(`${name}/${directory}`), { recursive: true });
    }
    await writeFile(made.at(`${name}/lock`), '');
    await writeFile(made.at(`${name}/packs/pack`), 'SPPACK1\0'.padEnd(600, 'x'));
  }
  await writeFile(made.at('state/enrolment.json'), 'x'.repeat(600));
  const refusedAt = async (target: string, message: RegExp) => {
    const before = [
      await contentOf(made.at('store')),
      await contentOf(made.at('other')),
      await contentOf(made.at('state')),
    ];
    const options = { ...ALL_ALLOWED, storeDirectory: made.at('store') };
    await refused(t, made.restore(target, options), 'usage', message);
    const after = [
      await contentOf(made.at('store')),
      await contentOf(made.at('other')),
      await contentOf(made.at('state')),
    ];
    t.deepEqual(after, before, target);
  };
  return { ...made, refusedAt };
}

test('files of a store and of the state directory, and new ones in them', async (t) => {
  const { at, refusedAt } = await world(t);
  for (const store of ['store', 'other']) {
    const message = new RegExp(`it belongs to the store .*/${store}, which is never overwritten`);
    for (const name of ['store.json', 'lock', 'packs/pack', 'new', 'packs/new']) {
      await refusedAt(at(`${store}/${name}`), message);
    }
  }
  for (const name of ['enrolment.json', 'new'])
    await refusedAt(at(`state/${name}`), /it belongs to the state directory/);
});

test('a store whose store.json is damaged, or lost', async (t) => {
  const { at, refusedAt } = await world(t);
  await writeFile(at('other/store.json'), 'damaged');
  await refusedAt(at('other/store.json'), /it belongs to the store/);
  await rm(at('other/store.json'));
  await refusedAt(at('other/packs/pack'), /it belongs to the store/);
});

test('by links', async (t) => {
  const { at, refusedAt } = await world(t);
  await symlink('store/store.json', at('link'));
  await refusedAt(at('link'), /it belongs to the store/);
  await symlink('store', at('directory'));
  await refusedAt(at('directory/new'), /it belongs to the store/);
  await symlink('other/new', at('dangling'));
  await refusedAt(at('dangling'), /it belongs to the store/);
  await link(at('state/enrolment.json'), at('hard'));
  await refusedAt(at('hard'), /it is a hard link to a file of the state directory/);
  await link(at('store/lock'), at('hard-too'));
  await refusedAt(at('hard-too'), /it is a hard link to a file of the store/);
  // Of a store that nobody named.
  await link(at('other/store.json'), at('hard-store'));
  await refusedAt(at('hard-store'), /it is a file of a store/);
  await link(at('other/packs/pack'), at('hard-pack'));
  await refusedAt(at('hard-pack'), /it is a pack of a store/);
});

testWith(['root', 'loop'], 'by bind mounts, of a directory and of a file, and by loop devices', async (t) => {
  const { at, refusedAt } = await world(t);
  await mount(t, at('store/packs'), at('bound'), 'bind', 'none');
  await refusedAt(at('bound/pack'), /it belongs to the store/);
  await refusedAt(at('bound/new'), /it belongs to the store/);
  await writeFile(at('file'), '');
  run('mount', '--bind', at('state/enrolment.json'), at('file'));
  t.teardown(() => run('umount', at('file')));
  await refusedAt(at('file'), /it belongs to the state directory/);
  await writeFile(at('other/large'), '');
  await truncate(at('other/large'), 4 * 1024 * 1024);
  const loop = attachLoop(t, at('other/large'));
  await refusedAt(loop, /it belongs to the store/);
  await refusedAt(attachLoop(t, loop), /it belongs to the store/);
});

testWith(
  ['root', 'loop', ...programs('mkfs.ext4')],
  'the image and the devices that a store lies on; not the image beside it',
  async (t) => {
    const { at, bytes, restore } = await restoreWorld(t);
    await writeFile(at('image'), '');
    await truncate(at('image'), 16 * 1024 * 1024);
    const outer = attachLoop(t, at('image'));
    const loop = attachLoop(t, outer);
    run('mkfs.ext4', '-q', loop);
    await mount(t, loop, at('mount'));
    const storeDirectory = at('mount/store');
    await mkdir(storeDirectory);
    const options = { ...ALL_ALLOWED, storeDirectory };
    for (const target of [at('image'), outer, loop]) {
      await refused(t, restore(target, options), 'usage', /the store .*\/mount\/store is on it/);
    }
    await restore(at('mount/beside.img'), options);
    t.true(bytes.equals(await readFile(at('mount/beside.img'))));
    // For a tap's source too.
    await refused(t, refuseProtected(at('image'), { stateDirectory: storeDirectory }), 'usage', /is on it/);
  },
);

/** A tap of `source`, whose preserve area is elsewhere. */
async function tapOf({ at, directory, stateDirectory }: RestoreWorld, source: string) {
  const place = { directory, image: source };
  const tap = await addTap(
    stateDirectory,
    settingsFor(place, {
      preserveDirectory: at('preserve'),
      journal: { directory: at('spool'), maxBytes: 1 },
    }),
  );
  await mkdir(at('preserve'));
  await writeFile(tap.mapPath, 'SPTAPMAP');
  return tap;
}

test("a tap's preserve area and map; its device while it runs, and else without its map", async (t) => {
  const made = await restoreWorld(t);
  const { at, bytes, restore } = made;
  await writeFile(at('disk'), Buffer.alloc(bytes.length, 1));
  const tap = await tapOf(made, at('disk'));
  await link(tap.mapPath, at('map-too'));
  await refused(
    t,
    restore(at('preserve/new'), ALL_ALLOWED),
    'usage',
    /it belongs to the preserve area of the tap disk/,
  );
  const spool = /it belongs to the journal of the tap disk/;
  await refused(t, restore(at('spool/new'), ALL_ALLOWED), 'usage', spool);
  await refused(t, restore(at('map-too'), ALL_ALLOWED), 'usage', /it is the map of a tap/);

  const running = await lockTap(tap);
  const message = /the tap disk serves .*\/disk, .* stop it first: stillpoint tap stop disk/;
  await refused(t, restore(at('disk'), ALL_ALLOWED), 'device-in-use', message);
  t.true((await readFile(at('disk'))).every((byte) => byte === 1));
  t.is(await readFile(tap.mapPath, 'utf8'), 'SPTAPMAP');
  await running.close();

  await restore(at('disk'), { overwrite: true });
  t.true(bytes.equals(await readFile(at('disk'))));
  await t.throwsAsync(readFile(tap.mapPath), { code: 'ENOENT' });
  await (await lockTap(tap)).close();
});

testWith(['root', 'loop'], "a running tap's device by another one that has its bytes", async (t) => {
  const made = await restoreWorld(t);
  const { at, bytes, restore } = made;
  await writeFile(at('disk'), Buffer.alloc(bytes.length, 1));
  const loop = attachLoop(t, at('disk'));
  const running = await lockTap(await tapOf(made, at('disk')));
  t.teardown(() => running.close());
  await refused(t, restore(loop, ALL_ALLOWED), 'device-in-use', /the tap disk serves/);
});

test('what a tap of another state directory serves', async (t) => {
  const { at, bytes, restore } = await restoreWorld(t);
  await writeFile(at('disk'), Buffer.alloc(bytes.length, 1));
  // Stands for `stillpoint tap serve disk`: it has the image open for writing, and that command line.
  const script =
    'require("fs").openSync(process.argv[5], "r+"); console.log("open"); setTimeout(() => {}, 60_000)';
  const child = execFile(process.execPath, ['-e', script, 'stillpoint', 'tap', 'serve', 'disk', at('disk')]);
  t.teardown(() => child.kill());
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  await refused(
    t,
    restore(at('disk'), ALL_ALLOWED),
    'device-in-use',
    /a tap serves it, disk \(process \d+\)/,
  );
  t.true((await readFile(at('disk'))).every((byte) => byte === 1));
});

test('what a backup reads, and what another restore writes', async (t) => {
  const { at, bytes, restore } = await restoreWorld(t);
  await writeFile(at('disk'), Buffer.alloc(bytes.length, 1));
  const script = `require("${import.meta.resolve('fs-ext').replace('file://', '')}").flockSync(require("fs").openSync(process.argv[2], "r"), process.argv[3]); console.log("locked"); setTimeout(() => {}, 60_000)`;
  const cases: [string, string, RegExp][] = [
    ['sh', 'stillpoint', /disk: a backup reads it \(process \d+\)\. Wait until it has ended/],
    ['ex', 'stillpoint', /disk: node \(process \d+\) has locked it/],
    ['sh', 'other', /disk: node \(process \d+\) has locked it/],
  ];
  for (const [kind, name, message] of cases) {
    const child = execFile(process.execPath, ['-e', script, name, at('disk'), kind]);
    t.teardown(() => child.kill());
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    await refused(t, restore(at('disk'), ALL_ALLOWED), 'device-in-use', message);
    child.kill();
    await new Promise((resolve) => child.once('exit', resolve));
  }
  t.true((await readFile(at('disk'))).every((byte) => byte === 1));
  const other = await lockTarget(at('disk'));
  await refused(t, restore(at('disk'), ALL_ALLOWED), 'device-in-use', /has locked it/);
  await refused(t, lockSource(at('disk')), 'device-in-use', /a restore/);
  await other.close();
  const reading = await lockSource(at('disk'));
  await refused(t, restore(at('disk'), ALL_ALLOWED), 'device-in-use', /has locked it/);
  await reading?.close();
  await restore(at('disk'), ALL_ALLOWED);
  t.true(bytes.equals(await readFile(at('disk'))));
});
