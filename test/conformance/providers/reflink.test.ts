/** A clone on XFS; the image is written through its file system. */
import { readFile, writeFile } from 'node:fs/promises';
import { reflinkEntry } from '../../../src/capture/providers/reflink/entry.js';
import { CLONING_PROGRAMS, makeCloningDisk, useImage } from '../../helpers/worlds/reflink.js';
import { BLOCK, checkProvider } from './provider.js';

checkProvider(
  'reflink',
  async (t) => {
    const disk = await makeCloningDisk(t, 'xfs');
    await writeFile(disk.image, Buffer.alloc(8 * BLOCK, 'still'));
    const writer = await useImage(t, disk);
    const request = { path: disk.image, stateDirectory: disk.stateDirectory, fuzzy: false };
    let byte = 0;
    return {
      provider: reflinkEntry,
      request,
      read: async (block) => (await readFile(disk.image)).subarray(block * BLOCK, (block + 1) * BLOCK),
      write: async (block) => {
        byte += 1;
        await writer.write(Buffer.alloc(BLOCK, byte), 0, BLOCK, block * BLOCK);
      },
      unable: async () => ({ ...request, path: disk.stateDirectory.replace(/state$/, 'backing') }),
    };
  },
  false,
  ['loop', { program: CLONING_PROGRAMS.xfs }],
);
