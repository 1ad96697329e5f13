import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { offlineEntry } from '../../../src/capture/providers/offline/entry.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { BLOCK, checkProvider } from './provider.js';

checkProvider('offline', async (t) => {
  const path = join(await temporaryDirectory(t, 'provider'), 'disk.img');
  await writeFile(path, Buffer.alloc(8 * BLOCK, 'still'));
  const request = { path, stateDirectory: null, fuzzy: false };
  return {
    provider: offlineEntry,
    request,
    read: async (block) => (await readFile(path)).subarray(block * BLOCK, (block + 1) * BLOCK),
    unable: async () => {
      const writer = await open(path, 'r+');
      t.teardown(() => writer.close());
      return request;
    },
  };
});
