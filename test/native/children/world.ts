/** For the children of lifecycle.test.ts: a slow device and a scan over it. */
import { join } from 'node:path';
import { native, type Scan, type TreeFile } from '../../../src/native/index.js';
import { createMemoryDevice } from '../../../src/native/testing.js';
import { PLAIN } from '../../helpers/bytes/digests.js';

const BLOCK = 65_536;

export async function slowScan(directory: string, name: string): Promise<{ scan: Scan; base: TreeFile }> {
  const device = createMemoryDevice(4096 * BLOCK);
  await device.write(0, Buffer.alloc(BLOCK, 1));
  await device.write(2048 * BLOCK, Buffer.alloc(BLOCK, 2));
  device.setReadDelayMs(20);
  const base = await native.createTree(join(directory, name), device.sizeBytes, BLOCK, PLAIN);
  return { scan: native.createScan(device, { base, chunkBytes: 1 }), base };
}
