import { nodeDisk } from '../../../src/store/disk/disk.js';
import { testDisk } from '../../conformance/store/disk.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { FaultyDisk, PowerLossDisk } from '../../helpers/faults/disk.js';

testDisk('disk', async () => nodeDisk);
testDisk('disk without faults', async () => new FaultyDisk(nodeDisk, () => null));
testDisk('disk before its power is lost', async (t) => new PowerLossDisk(await tempDir(t)));
