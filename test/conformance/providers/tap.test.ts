/** A tap with its real process; its users write over NBD. */
import { readFile } from 'node:fs/promises';
import { tapEntry } from '../../../src/capture/providers/tap/entry.js';
import { TapWorld } from '../../helpers/worlds/tap.js';
import { BLOCK, checkProvider } from './provider.js';

checkProvider('tap', async (t) => {
  const world = await TapWorld.make(t, 1024 * 1024);
  await world.start();
  const request = { path: world.image, stateDirectory: world.directory, fuzzy: false };
  return {
    provider: tapEntry,
    request,
    read: async (block) => (await readFile(world.image)).subarray(block * BLOCK, (block + 1) * BLOCK),
    write: (block) => world.writeBlocks([block], BLOCK),
    unable: async () => {
      await world.stop();
      return request;
    },
  };
});
