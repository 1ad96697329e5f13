/**
 * Starts workers that scan, and ends them in the middle; the addon is loaded by
 * workers only. argv: directory.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const rounds = 6;

if (isMainThread) {
  for (let round = 0; round < rounds; round += 1) {
    const workers = [0, 1].map(
      (i) => new Worker(new URL(import.meta.url), { workerData: [process.argv[2], `base-${round}-${i}`] }),
    );
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    // By itself, or in the middle.
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  process.stdout.write('done\n');
} else {
  const { slowScan } = await import('./world.js');
  const [directory, name] = workerData as [string, string];
  const { scan, base } = await slowScan(directory, name);
  const chunk = await scan.next();
  void scan.next().catch(() => undefined);
  void chunk?.encode({ sessionId: '0'.repeat(32), sequence: 1, agentTimeMs: 0, compressionLevel: 19 });
  // In every second worker a close waits, too.
  if (name.endsWith('1')) void base.close();
  parentPort?.postMessage('scanning');
}
