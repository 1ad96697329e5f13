/** The journal of a tap, by its commands, without a process of the tap. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../../../src/cli/output/exit-codes.js';
import { journalLines } from '../../../src/cli/output/tap-view.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { TapJournalHead } from '../../../src/native/index.js';
import type { TapReport } from '../../../src/tap/control/messages.js';
import type { TapSettings } from '../../../src/tap/registry/settings.js';
import { lastResult, type Machine, makeMachine, runHere } from '../../helpers/machines/stillpoint.js';
import { settingsFor } from '../../helpers/worlds/taps.js';

async function place(t: ExecutionContext) {
  const machine = await makeMachine(t, 'tap');
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, Buffer.alloc(MiB, 'tap'));
  return { machine, image };
}

async function tapCommand(t: ExecutionContext, machine: Machine, ...args: string[]): Promise<TapSettings> {
  const { code, stdout, stderr } = await runHere(machine, 'tap', ...args, '--json');
  t.is(code, EXIT_OK, stderr);
  return lastResult<TapSettings>(stdout);
}

async function fails(
  t: ExecutionContext,
  machine: Machine,
  status: number,
  reason: RegExp,
  ...args: string[]
) {
  const { code, stderr } = await runHere(machine, 'tap', ...args);
  t.is(code, status, stderr);
  t.regex(stderr, reason);
}

test('options of a journal become settings, and may be changed', async (t) => {
  const { machine, image } = await place(t);
  const add = (...args: string[]) => tapCommand(t, machine, 'add', image, '--no-start', ...args);
  t.is((await add('--name', 'none')).journal, null);
  await tapCommand(t, machine, 'remove', 'none');
  const { journal } = await add('--name', 'vm1', '--journal');
  t.is(journal?.directory, join(machine.stateDirectory, 'taps', 'vm1', 'journal'));
  t.true((journal?.maxBytes ?? 0) >= 16 * MiB && (journal?.maxBytes ?? 0) <= 4 * KiB * MiB);
  const set = (...args: string[]) => tapCommand(t, machine, 'set', 'vm1', ...args);
  const away = join(machine.directory, 'away');
  const moved = await set('--journal', '--journal-dir', away);
  t.deepEqual(moved.journal, { directory: away, maxBytes: journal?.maxBytes ?? 0 });
  const larger = await set('--journal', '--journal-max', '32M');
  t.deepEqual(larger.journal, { directory: away, maxBytes: 32 * MiB });
  t.is((await set('--no-journal')).journal, null);
  t.is((await tapCommand(t, machine, 'status', 'vm1')).journal, null);
});

test('a journal that can not be is refused', async (t) => {
  const { machine, image } = await place(t);
  const add = (reason: RegExp, ...args: string[]) =>
    fails(t, machine, EXIT_USAGE, reason, 'add', image, '--name', 'vm1', '--no-start', ...args);
  await add(/--journal-dir: it says nothing without --journal/, '--journal-dir', '/x');
  await add(/--journal-max: it says nothing without --journal/, '--journal-max', '1G');
  await add(/refuses all writes/, '--journal', '--read-only');
  await add(/at least 16777216 bytes/, '--journal', '--journal-max', '15M');
  const set = (status: number, reason: RegExp, ...args: string[]) =>
    fails(t, machine, status, reason, 'set', ...args);
  await set(EXIT_FAILED, /there is no tap of this name/, 'vm1', '--journal');
  await tapCommand(t, machine, 'add', image, '--name', 'vm1', '--no-start', '--read-only');
  await set(EXIT_USAGE, /nothing says whether it is to have a journal/, 'vm1');
  await set(EXIT_USAGE, /refuses all writes/, 'vm1', '--journal');
});

const HEAD: TapJournalHead = {
  ...{ journalId: 'ab'.repeat(16), clockId: 'cd'.repeat(16), state: 'open', ordinal: 7, lastOrdinal: 7 },
  ...{ stamp: '1767225600123456789', segment: 3, recordOffset: 0, endOffset: MiB, oldestSegment: 2 },
  ...{ brokenStamp: '0', reason: '' },
};

test('what people see of a journal', (t) => {
  const settings = settingsFor({ directory: '/state', image: '/disk.img' });
  const journaled = { ...settings, journal: { directory: '/spool', maxBytes: 4 * KiB * MiB } };
  const seen = (journal: TapReport['status']['journal']) =>
    journalLines(journaled, { status: { journal } } as TapReport).map((line) =>
      line.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)/g, 'TIME'),
    );
  t.deepEqual(journalLines(settings, null), []);
  const room = '  journal   up to 4 GiB in /spool';
  t.deepEqual(journalLines(journaled, null), [room]);
  const more = (text: string) => `            ${text}`;
  t.deepEqual(seen(undefined), [room, more('from the next start of the tap on')]);
  const quiet = { failure: '', aheadMs: 0 };
  t.deepEqual(seen({ heads: [], ...quiet }), [room, more('it begins with the next backup')]);
  const open = `${HEAD.journalId}, 7 records up to TIME, 65 MiB in the spool`;
  t.deepEqual(seen({ heads: [HEAD], ...quiet }), [room, more(open)]);
  const broken = { ...HEAD, state: 'broken', reason: 'its spool is full', brokenStamp: HEAD.stamp } as const;
  t.deepEqual(seen({ heads: [broken, HEAD], ...quiet, aheadMs: 90_000 }), [
    ...[room, more(`broken at TIME: its spool is full; ${open}`), more(open)],
    more('its stamps are 1 min 30 s ahead of the clock, which was there once'),
  ]);
  const failure = "the journal can't be opened: /spool: No such file or directory";
  t.deepEqual(seen({ heads: [], failure, aheadMs: 0 }), [room, more(`none is written: ${failure}`)]);
});
