/** argv: directory, how to end while a scan, a pull, a read and an encoding are in flight. */
import { createMemoryDevice } from '../../../src/native/testing.js';
import { slowScan } from './world.js';

const [directory = '', how = ''] = process.argv.slice(2);
const { scan } = await slowScan(directory, 'base');
const chunk = await scan.next();
if (chunk === null) throw new Error('the scan found nothing');

if (how !== 'natural') {
  const device = createMemoryDevice(65_536);
  device.setReadDelayMs(200);
  void device.read(0, 4096);
  void scan.next();
  void chunk.encode({ sessionId: '0'.repeat(32), sequence: 1, agentTimeMs: 0, compressionLevel: 19 });
}
process.stdout.write(`${JSON.stringify(scan.progress())}\n`);
if (how === 'exit') process.exit(7);
if (how === 'throw') throw new Error('on purpose');
// natural: nothing is awaited any more, but the scan still runs.
