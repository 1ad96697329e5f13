/** `points --partial`, and the setting of how long they are kept, as people and scripts see them. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_OK } from '../../src/cli/output/exit-codes.js';
import { parsePeriod } from '../../src/domain/base/quantities.js';
import type { PartialSet } from '../../src/domain/session/messages.js';
import { openEmbeddedReceiver } from '../../src/receiver/embedded.js';
import { openStore } from '../../src/store/open.js';
import { blocksOf } from '../conformance/receiver.js';
import { batchOf } from '../helpers/bytes/batches.js';
import { beginRequest, sessionId } from '../helpers/bytes/requests.js';
import { lastResult, makeMachine, runHere } from '../helpers/machines/stillpoint.js';
import { refused } from '../helpers/refused.js';

test('what was delivered without a point is listed, by agent and device', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  t.is((await runHere(machine, 'receiver', 'init', store, '--keep-partial', '2d')).code, EXIT_OK);
  const none = await runHere(machine, 'points', '--partial', '--store', store);
  t.is(none.stdout, 'There are no partial sets.\n');

  const receiver = await openEmbeddedReceiver(store, { agent: 'web1', openStore });
  for (const [number, device] of ['disk', 'other'].entries()) {
    const id = sessionId(number + 1);
    await receiver.begin(beginRequest({ sessionId: id, device }));
    await receiver.batch(id, 1, batchOf(id, 1, blocksOf([0, 1], number)));
  }
  await receiver.abort(sessionId(2));
  await receiver.close();

  const listed = await runHere(machine, 'points', '--partial', '--store', store, '--agent', 'web1');
  t.is(listed.code, EXIT_OK, listed.stderr);
  const [titles, ...rows] = listed.stdout.trimEnd().split('\n');
  t.regex(titles ?? '', /^DEVICE +BEGUN +STATE +DURABLE +LAST ACTIVITY +KEPT UNTIL +SESSION$/);
  t.regex(rows.join('\n'), /^disk .* open .*\nother .* ended /);
  const { stdout } = await runHere(
    machine,
    'points',
    '--partial',
    'disk',
    '--store',
    store,
    '--agent',
    'web1',
    '--json',
  );
  const [set, ...others] = lastResult<{ partialSets: PartialSet[] }>(stdout).partialSets;
  t.deepEqual(others, []);
  t.like(set, { device: 'disk', state: 'open', sessionId: sessionId(1) });
  t.is(
    Date.parse(set?.expiresAt ?? '') - Date.parse(set?.lastActivityAt ?? ''),
    2 * 24 * 3_600_000,
    'as the receiver was told',
  );
  const mine = await runHere(machine, 'points', '--partial', '--store', store);
  t.regex(mine.stdout, /^web1\/disk .* open .*\nweb1\/other .* ended /m, 'the directory has all of them');
  const another = await runHere(machine, 'points', '--partial', '--store', store, '--agent', 'web2');
  t.is(another.stdout, 'There are no partial sets.\n');
});

test('an ordinary backup leaves no partial set', async (t) => {
  const machine = await makeMachine(t);
  const [store, image] = [join(machine.directory, 'store'), join(machine.directory, 'disk.img')];
  await writeFile(image, Buffer.alloc(70_000, 'stillpoint'));
  t.is((await runHere(machine, 'backup', image, '--store', store)).code, EXIT_OK);
  t.is(
    (await runHere(machine, 'points', '--partial', '--store', store)).stdout,
    'There are no partial sets.\n',
  );
});

test('periods', async (t) => {
  for (const [text, periodMs] of [
    ['90m', 5_400_000],
    ['12h', 43_200_000],
    ['7D', 604_800_000],
    ['2 w', 1_209_600_000],
  ] as const) {
    t.is(parsePeriod('period', text, 1), periodMs);
  }
  for (const text of ['', '7', 'd', '-7d', '1.5h', '7 days', '1s', '123456d', '59m']) {
    await refused(t, (async () => parsePeriod('period', text, 3_600_000))(), 'usage', /period/);
  }
});
