/**
 * Run with --expose-gc: objects that are dropped in the middle of their work are collected, and their memory
 * with them. argv: directory.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Scan } from '../../../src/native/index.js';
import { createMemoryDevice } from '../../../src/native/testing.js';
import { slowScan } from './world.js';

const directory = process.argv[2] ?? '';
const collect = async (): Promise<void> => {
  for (let i = 0; i < 5; i += 1) {
    globalThis.gc?.();
    await sleep(10);
  }
};
let finalized = 0;
const registry = new FinalizationRegistry(() => (finalized += 1));
const collected = (): number => finalized;

// A scan that somebody waits on stays; its chunk is whole after it is gone.
const first = await slowScan(directory, 'first');
let scan: Scan | null = first.scan;
registry.register(scan, 'scan');
let chunk = await scan.next();
const pull = scan.next();
scan = null;
(first as { scan: Scan | null }).scan = null;
await collect();
if (collected() !== 0) throw new Error('a scan was collected although a pull was in flight');
if ((await pull) === null) throw new Error('the pull got no chunk');
await collect();
if (collected() !== 1) throw new Error('a dropped scan was not collected');
const body = await chunk?.encode({
  sessionId: '0'.repeat(32),
  sequence: 1,
  agentTimeMs: 0,
  compressionLevel: 1,
});
if (body === undefined || body.length < 200) throw new Error('the chunk lost its bytes');
chunk = null;
// Its readers have ended, or this would wait for them for ever.
await first.base.close();

// Devices, buffers and chunks by the hundred leave no memory behind.
for (let i = 0; i < 300; i += 1) {
  const device = createMemoryDevice(8 << 20);
  await device.write(0, Buffer.alloc(4 << 20, i));
  await device.read(0, 4 << 20);
  if (i % 20 === 0) await collect();
}
await collect();
const mebibytes = Math.round(process.memoryUsage().rss / (1 << 20));
if (mebibytes > 500) throw new Error(`${mebibytes} MiB resident after collection`);
process.stdout.write('done\n');
