/** The static view of an image that a tap's hold gave at a second, with its place in the journal. */
import type { SnapshotProvider } from '../../../src/capture/ports.js';
import type { JournalPosition } from '../../../src/domain/journal/journal.js';
import { native } from '../../../src/native/index.js';
import { isoAt } from './stored-journals.js';

export function providerAt(
  image: string,
  second: number,
  journal: JournalPosition | undefined,
): SnapshotProvider {
  return {
    name: 'test',
    hold: async () => {
      const device = await native.openDevice(image);
      return {
        device,
        identity: { type: 'image', path: image, inode: '1:2/3', logicalSectorSize: 512 },
        instant: new Date(isoAt(second)),
        kind: 'crash',
        warnings: [],
        conclude: async () => ({ kind: 'crash', warnings: [], journal }),
        release: () => device.close(),
      };
    },
  };
}
