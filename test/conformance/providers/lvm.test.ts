/** LVM as it behaves, in files; the real one is in test/vm/lvm.sh. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lvmEntryOn } from '../../../src/capture/providers/lvm/entry.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { FakeLvm } from '../../helpers/fakes/lvm.js';
import { BLOCK, checkProvider } from './provider.js';

for (const isThin of [false, true]) {
  checkProvider(isThin ? 'lvm, thin' : 'lvm, thick', async (t) => {
    const directory = await temporaryDirectory(t, 'provider');
    const host = await FakeLvm.make({ directory, sizeBytes: 512 * 1024, isThin });
    t.teardown(() => {
      if (host.names.length > 0) throw new Error(`left over: ${host.names.join(', ')}`);
    });
    const request = { path: host.path, stateDirectory: null, fuzzy: false };
    return {
      provider: lvmEntryOn(host),
      request,
      read: async (block) => (await readFile(host.path)).subarray(block * BLOCK, (block + 1) * BLOCK),
      unable: async () => ({ ...request, path: join(directory, 'locks') }),
    };
  });
}
