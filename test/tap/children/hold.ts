/** An agent that takes a hold and then waits to be killed. */
import { connectTap } from '../../../src/tap/control/client.js';
import { holdAtOnce } from '../../helpers/machines/hold-at-once.js';

const control = await connectTap(process.argv[2] ?? '');
await holdAtOnce(control, {
  sessionId: '0123456789abcdef'.repeat(2),
  basePointId: null,
  full: true,
  readBlockSize: 65_536,
  sampleBlocks: [],
});
process.send?.('held');
