/**
 * Goes as far with a clone as a test wants, and dies: steps.js IMAGE STATE SESSION BASE STEP. STEP is
 * `prepared`, `cut`, `viewed`, `concluded` or `committed`.
 */
import { prepareReflink } from '../../../../../src/capture/providers/reflink/reflink.js';

const [path = '', stateDirectory = '', sessionId = '', base = '', step = ''] = process.argv.slice(2);
const die = (at: string): void => {
  if (at === step) process.kill(process.pid, 'SIGKILL');
};
const member = await prepareReflink(
  { path, stateDirectory },
  {
    ...{ sessionId, basePointId: base, full: false, doubt: null },
    ...{ blockSize: 4096, fuzzy: false },
  },
);
die('prepared');
await member.close({ closedMs: 10_000 });
const cut = await member.cut();
die('cut');
const snapshot = await cut.view('crash');
die('viewed');
await snapshot.conclude();
die('concluded');
await snapshot.tracking?.committed();
die('committed');
