/** An agent that takes a hold and then waits to be killed. */
import { connectTap } from '../../../src/tap/control/client.js';

const control = await connectTap(process.argv[2] ?? '');
await control.hold({
  sessionId: '0123456789abcdef'.repeat(2),
  basePointId: null,
  full: true,
  readBlockSize: 65_536,
  sampleBlocks: [],
  barrierMs: 1000,
});
process.send?.('held');
