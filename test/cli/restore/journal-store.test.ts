/** `points --journal` and `restore data@TIME` over a store in a directory, as people and scripts see them. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { runBackup } from '../../../src/agent/backup/backup.js';
import { EXIT_DAMAGED, EXIT_OK, EXIT_USAGE } from '../../../src/cli/output/exit-codes.js';
import { openEmbeddedReceiver } from '../../../src/receiver/embedded.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { journalRecord } from '../../helpers/bytes/journal-records.js';
import { providerAt } from '../../helpers/journals/provider-at.js';
import { CLOCK_ID, isoAt, journalIdOf, positionAt, stampAt } from '../../helpers/journals/stored-journals.js';
import { lastResult, makeMachine, runHere } from '../../helpers/machines/stillpoint.js';

const SIZE = 10 * 65_536;

test('seconds are listed, restored with the time of their last write, and refused where they are wrong', async (t) => {
  const machine = await makeMachine(t);
  const at = (name: string) => join(machine.directory, name);
  const store = at('store');
  await createStore(store);
  const receiver = await openEmbeddedReceiver(store, { openStore });
  const disk = Buffer.alloc(SIZE, 3);
  await receiver.beginJournal('data', journalIdOf(1), CLOCK_ID);
  const backup = async (second: number, ordinal: number) => {
    await writeFile(at('disk.img'), disk);
    const provider = providerAt(at('disk.img'), second, positionAt(1, ordinal, second));
    const options = { receiver, path: at('disk.img'), device: 'data', stateDirectory: at('state') };
    return (await runBackup({ ...options, provider })).point;
  };
  const ship = (...records: Parameters<typeof journalRecord>[0][]) =>
    receiver.appendJournal(journalIdOf(1), Buffer.concat(records.map((record) => journalRecord(record))));
  await ship({ kind: 'instant', ordinal: 1, stamp: stampAt(0), sessionId: 'ab'.repeat(16) });
  await backup(0, 1);
  const payload = Buffer.alloc(5000, 'w');
  await ship(
    { kind: 'write', ordinal: 2, stamp: stampAt(10), byteOffset: 100, payload },
    { kind: 'instant', ordinal: 3, stamp: stampAt(20), sessionId: 'cd'.repeat(16) },
    { kind: 'zero', ordinal: 4, stamp: stampAt(30.25), byteOffset: 4000, byteLength: 70_000 },
  );
  const first = Buffer.from(disk);
  first.set(payload, 100);
  disk.set(first);
  const second = await backup(20, 3);
  await receiver.close();
  const from = ['--store', store];

  const listed = await runHere(machine, 'points', '--journal', ...from);
  t.is(listed.code, EXIT_OK, listed.stderr);
  t.regex(listed.stdout, /^data +2026-03-01 .* not audited yet +@1 to @2 .*0{12}$/m);
  const { spans } = lastResult<{ spans: object[] }>(
    (await runHere(machine, 'points', '--journal', 'data', '--json', ...from)).stdout,
  );
  t.is(spans.length, 1);
  t.like(spans[0], {
    from: '2026-03-01T12:00:00.000000000Z',
    to: '2026-03-01T12:00:30.250000000Z',
    state: 'unaudited',
  });
  t.regex(
    (await runHere(machine, 'points', '--journal', 'other', ...from)).stdout,
    /^There is no journal of device other/,
  );

  const restored = await runHere(
    machine,
    'restore',
    `data@${isoAt(12)}`,
    at('twelve.img'),
    '--verify',
    ...from,
  );
  t.is(restored.code, EXIT_OK, restored.stderr);
  t.true(first.equals(await readFile(at('twelve.img'))));
  t.regex(restored.stderr, /data@\S+ is data@1 of .*, and what was written after it up to 2026-03-01/);
  t.regex(
    restored.stdout,
    /^data@1 of .*, with 1 write after it \(4\.88 KiB\) up to 2026-03-01 .*:10\.000\S*, which no later point has proven yet, restored to/,
  );
  const json = await runHere(machine, 'restore', 'data@2026-03-02', at('last.img'), '--json', ...from);
  t.like(lastResult<{ moment: object }>(json.stdout).moment, {
    time: '2026-03-01T12:00:30.250000000Z',
    writes: 1,
    isAudited: false,
  });
  const last = Buffer.from(first).fill(0, 4000, 74_000);
  t.true(last.equals(await readFile(at('last.img'))));
  const stream = await runHere(machine, 'restore', 'data@2026-03-02', '-', ...from);
  t.is(stream.code, EXIT_USAGE);
  t.regex(stream.stderr, /standard output: .*Restore to an image file, or only data@2\./);

  const opened = await openStore(store);
  await opened.journals.noteAudit('local', journalIdOf(1), {
    pointId: second.id,
    ordinal: 3,
    fault: '1 block differs',
  });
  await opened.close();
  t.regex(
    (await runHere(machine, 'points', '--journal', ...from)).stdout,
    /^data: REFUSED after data@1, .*: 1 block differs$/m,
  );
  const refused = await runHere(machine, 'restore', `data@${isoAt(12)}`, at('no.img'), ...from);
  t.is(refused.code, EXIT_DAMAGED);
  t.regex(refused.stderr, /1 block differs, as the later point data@2 showed\. Restore data@1 .* or data@2 /);
  await t.throwsAsync(stat(at('no.img')), { code: 'ENOENT' });
  t.is((await runHere(machine, 'restore', 'data@2026-03-02', at('two.img'), ...from)).code, EXIT_OK);
  t.true(
    first.equals(await readFile(at('two.img'))),
    'behind the fault only the point that showed it counts',
  );
});
