/**
 * The scan alone, without session and receiver, in a process of its own. Arguments: image, reader
 * threads, directory for its tree. Makes the tree of the image, then scans the image against it and
 * prints the time of that as JSON.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { BLOCK_SIZE_DEFAULT } from '../src/domain/base/limits.js';
import { type Device, type LeafOverlay, native, type TreeFile } from '../src/native/index.js';

const [image, readers, directory] = process.argv.slice(2) as [string, string, string];
const treePath = join(directory, 'scan-tree');
const overlayPath = join(directory, 'scan-overlay');
for (const path of [treePath, overlayPath]) rmSync(path, { force: true });

/** @returns changed blocks. */
async function scan(device: Device, base: TreeFile, overlay?: LeafOverlay): Promise<number> {
  const running = native.createScan(device, {
    base,
    readers: Number(readers),
    ...(overlay === undefined ? {} : { overlay }),
  });
  for (let chunk = await running.next(); chunk !== null; chunk = await running.next()) chunk.release();
  const { changedBlocks } = running.progress();
  await running.close();
  return changedBlocks;
}

const device = await native.openDevice(image);
const tree = await native.createTree(treePath, device.sizeBytes, BLOCK_SIZE_DEFAULT, native.plainDigester());
const overlay = await native.createOverlay(
  overlayPath,
  device.sizeBytes,
  BLOCK_SIZE_DEFAULT,
  tree.generation.root,
);
await scan(device, tree, overlay);
await overlay.seal({ pointId: '1'.repeat(32), root: (await tree.rootWith(overlay)).toString('hex') });
await tree.apply(overlay);
await overlay.close();

const started = performance.now();
const changedBlocks = await scan(device, tree);
const wallMs = performance.now() - started;
if (changedBlocks !== 0) throw new Error(`${image}: ${changedBlocks} blocks changed in an unchanged image`);
console.log(JSON.stringify({ wallMs, bytes: device.sizeBytes, direct: device.direct }));

await tree.close();
await device.close();
for (const path of [treePath, overlayPath]) rmSync(path);
