import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  checkStore,
  directoryPlace,
  receiverPlace,
  rememberStore,
  whyNoStore,
} from '../../../src/agent/state/known-stores.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';

const [A, B, C] = ['a'.repeat(32), 'b'.repeat(32), 'c'.repeat(32)] as const;

test('another store than those that are known at a place is refused, until it is accepted', async (t) => {
  const state = join(await temporaryDirectory(t, 'known'), 'state');
  const place = receiverPlace({ receiverId: '1'.repeat(32), url: 'https://x:1' });
  await checkStore(state, place, A, false);
  await checkStore(state, place, A, false);
  await refused(
    t,
    checkStore(state, place, B, false),
    'store-changed',
    /store b{12}, .* into store a{12}\. /,
  );
  await checkStore(state, place, B, true);
  await checkStore(state, place, B, false);
  await checkStore(state, place, A, false);
  const both = /receiver https:\/\/x:1: it is store c{12}, .*any of the stores a{12}, b{12}.*--accept-store/;
  await refused(t, checkStore(state, place, C, false), 'store-changed', both);
  await checkStore(state, receiverPlace({ receiverId: '2'.repeat(32), url: 'https://x:1' }), C, false);
});

test('the file is a help and no more: lost or damaged, the store is met anew', async (t) => {
  const state = join(await temporaryDirectory(t, 'known'), 'state');
  const place = await directoryPlace('/nowhere/store');
  await checkStore(state, place, A, false);
  const [name = ''] = await readdir(join(state, 'known-stores'));
  await writeFile(join(state, 'known-stores', name), 'x');
  await checkStore(state, place, B, false);
  await refused(t, checkStore(state, place, A, false), 'store-changed');
  await rm(state, { recursive: true });
  t.is(await whyNoStore(state, place, true), null);
});

test('a directory is known by its real path, also while it is not there', async (t) => {
  const directory = await temporaryDirectory(t, 'known');
  const state = join(directory, 'state');
  await mkdir(join(directory, 'disk/store'), { recursive: true });
  await symlink('disk/store', join(directory, 'link'));
  const byLink = await directoryPlace(join(directory, 'link'));
  t.is(byLink.key, (await directoryPlace(join(directory, 'disk/store'))).key);
  await rememberStore(state, byLink, A);
  await rm(join(directory, 'disk/store'), { recursive: true });
  for (const path of ['link', 'disk/store', 'disk/../disk/./store']) {
    const error = await whyNoStore(state, await directoryPlace(join(directory, path)), true);
    t.regex(
      error?.message ?? '',
      /store a{12}, which this machine has backed up into, is not there.*--new-store/,
      path,
    );
  }
  const reading = await whyNoStore(state, byLink, false);
  t.notRegex(reading?.message ?? '--new-store', /--new-store/);
  await symlink('loop', join(directory, 'loop'));
  t.is((await directoryPlace(join(directory, 'loop/x'))).key, `directory ${join(directory, 'loop/x')}`);
});
