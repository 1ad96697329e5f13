/** Writes to an image file, seen in its times: for an instant after a while without one. */
import { stat } from 'node:fs/promises';
import { fileTimes, waitForTick } from '../../../devices/facts/honest-times.js';
import type { WriteWatch } from '../../quiesce/quiet.js';
import type { ImageFile } from './clone-file.js';

export function imageWatch({ path, handle }: ImageFile): WriteWatch<string> {
  return {
    sample: async () => {
      // A page that somebody has mapped moves the times at the first write after it was written back only.
      await handle.datasync();
      await waitForTick(path);
      return fileTimes(await stat(path, { bigint: true }));
    },
    wrote: (before, after) => before !== after,
  };
}
