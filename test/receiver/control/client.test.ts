/** The commands' end of the control socket: what a receiver says, and that none serves. */
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { askReceiver, NotServed } from '../../../src/receiver/control/client.js';
import { controlPath } from '../../../src/receiver/control/server.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const ask = (dir: string) => askReceiver(dir, { op: 'agents' }, { signal: new AbortController().signal });

test("a receiver's own error is not taken for one that does not serve", async (t) => {
  const dir = await tempDir(t);
  await mkdir(join(dir, 'receiver'));
  t.true((await t.throwsAsync(ask(dir))) instanceof NotServed);
  const codes = ['config', 'unreachable', 'of-a-newer-one'];
  const server = createServer((socket) => {
    const error = { code: codes.shift(), thing: 'dial', reason: 'it is wrong', permanent: true };
    socket.end(`${JSON.stringify({ error })}\n`);
  });
  await new Promise<void>((resolve) => server.listen(controlPath(dir), resolve));
  t.teardown(() => server.close());
  for (const code of ['config', 'unreachable', 'version']) {
    const error = await t.throwsAsync(ask(dir));
    t.like(error, { code, thing: 'dial', reason: 'it is wrong' });
    t.false(error instanceof NotServed, code);
  }
});

test('a directory whose path is too long for a socket has nobody that takes commands', async (t) => {
  t.true((await t.throwsAsync(ask(`/${'x'.repeat(120)}`))) instanceof NotServed);
});
