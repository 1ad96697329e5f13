/** A loop device that others write to, on a kernel that tells what is written. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { liveEntry } from '../../../src/capture/providers/live/entry.js';
import { native } from '../../../src/native/index.js';
import { attachLoop, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { LIVE_REQUIREMENTS, trackNow, untrackAtEnd } from '../../helpers/live/world.js';
import { IN_MEMORY } from '../../helpers/machines/stillpoint.js';
import { BLOCK, checkProvider } from './provider.js';

checkProvider(
  'live',
  async (t) => {
    const image = join(await temporaryDirectory(t, 'provider', IN_MEMORY), 'disk.img');
    await writeFile(image, Buffer.alloc(16 * BLOCK, 'live'));
    const device = attachLoop(t, image);
    await trackNow(await untrackAtEnd(t, device), false);
    const request = { path: device, stateDirectory: null, fuzzy: false };
    let byte = 0;
    return {
      provider: liveEntry,
      request,
      read: async (block) => (await readFile(image)).subarray(block * BLOCK, (block + 1) * BLOCK),
      write: async (block) => {
        const writer = await native.openDevice(device, { write: true });
        await writer.write(block * BLOCK, Buffer.alloc(BLOCK, ++byte));
        await writer.close();
      },
      unable: async () => ({ ...request, path: image }),
    };
  },
  true,
  LIVE_REQUIREMENTS,
);
