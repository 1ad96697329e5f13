/** The journal of a real tap, by its commands, shipped to a receiver in memory by the agent's service. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { Slots } from '../../../src/agent/common/slots.js';
import { JournalService } from '../../../src/agent/journal/service.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { native, type TapJournalHead } from '../../../src/native/index.js';
import { connectTap } from '../../../src/tap/control/client.js';
import { listTaps } from '../../../src/tap/registry/registry.js';
import { nbdsh } from '../../helpers/disks/nbdsh.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import { eventually, LinkedReceiver } from '../../helpers/journals/world.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { type Tapped, tapped } from '../../helpers/worlds/tapped.js';

const NEEDS = programs('nbdsh');

function ship(t: ExecutionContext, tap: Tapped, receiver: LinkedReceiver): JournalService {
  const stop = new AbortController();
  const slots = new Slots(2);
  const service = new JournalService({
    ...{
      signal: stop.signal,
      lookMs: 200,
      log: pino({ level: 'silent' }),
      counters: { add: () => undefined },
    },
    devices: () => [deviceNamed('', 'data', { path: tap.source })],
    listTaps: () => listTaps(tap.machine.stateDirectory),
    journalOf: ({ settings, headDirectory, controlPath }) =>
      settings.journal && { name: settings.name, ...settings.journal, headDirectory, controlPath },
    targetOf: async ({ name: device }) => ({
      ...{ device, receiver: 'r', receiverId: 'r', key: 'r', slots },
      open: async () => receiver.connect(),
    }),
    readHead: (path) => native.readJournalHead(path),
    scan: (records, options) => native.scanJournal(records, options),
    connect: connectTap,
    ...{ now: () => performance.now(), wallMs: Date.now, random: Math.random },
  });
  const running = service.run();
  t.teardown(async () => {
    stop.abort();
    await running;
  });
  return service;
}

async function write(t: ExecutionContext, tap: Tapped, count: number, bytes: number): Promise<void> {
  const each = `for i in range(${count}): h.pwrite(bytes([i % 251]) * ${bytes}, i % 8 * 1024 * 1024)`;
  t.is(await nbdsh(t, tap.uri, 'h = connected()', each, 'h.shutdown()', 'result = "done"'), 'done');
}

async function headOf(tap: Tapped): Promise<TapJournalHead> {
  for (;;) {
    const head = (await tap.report()).status.journal?.heads.at(-1);
    if (head !== undefined && head.ordinal === head.lastOrdinal) return head;
  }
}

const isThere = async (receiver: LinkedReceiver, { journalId, ordinal }: TapJournalHead) =>
  (await receiver.find(journalId))?.last?.ordinal === ordinal;

testWith(
  NEEDS,
  'what users write arrives, over clean ends of the tap; a killed one ends its journal',
  async (t) => {
    const tap = await tapped(t, { sizeBytes: 8 * MiB, args: ['--journal'] });
    const receiver = await LinkedReceiver.open(t);
    const service = ship(t, tap, receiver);
    await tap.backup();
    await write(t, tap, 500, 4 * KiB);
    const first = await headOf(tap);
    await eventually('all has arrived', () => isThere(receiver, first));
    const spool = join(tap.machine.stateDirectory, 'taps', tap.name, 'journal', first.journalId);
    const segment = await readFile(join(spool, '0000000001.segment'));
    t.deepEqual(await receiver.bytesOf(first.journalId), segment.subarray(0, first.endOffset));
    t.like(service.view()[0], { state: 'shipped', device: 'data', problem: null });
    await write(t, tap, 100, 700 * KiB);
    const filled = await headOf(tap);
    t.is(filled.segment, 2);
    await eventually('all has arrived', () => isThere(receiver, filled));
    await eventually(
      'what has arrived is released',
      async () => !(await readdir(spool)).includes('0000000001.segment'),
    );
    await tap.stop();
    await tap.start();
    await write(t, tap, 50, 64 * KiB);
    const again = await headOf(tap);
    t.is(again.journalId, first.journalId);
    await eventually('it goes on', () => isThere(receiver, again));
    await tap.kill();
    await tap.start();
    const killed = await headOf(tap);
    await eventually('its end is told', async () => (await receiver.find(first.journalId))?.end !== null);
    t.like((await receiver.find(first.journalId))?.end, {
      ...{ reason: killed.reason, stamp: killed.brokenStamp, lastOrdinal: killed.lastOrdinal },
    });
    await tap.backup();
    await eventually(
      'the tap has forgotten it',
      async () => (await tap.report()).status.journal?.heads.length === 1,
    );
    const next = await headOf(tap);
    t.not(next.journalId, first.journalId);
    await eventually('the next one is there', () => isThere(receiver, next));
  },
);

testWith(
  NEEDS,
  'a journal that its receiver has ended is broken by its tap, and the next is shipped',
  async (t) => {
    const tap = await tapped(t, { sizeBytes: 8 * MiB, args: ['--journal'] });
    const receiver = await LinkedReceiver.open(t);
    ship(t, tap, receiver);
    await tap.backup();
    const head = await headOf(tap);
    await eventually('it is there', () => isThere(receiver, head));
    await receiver.store.journals.end('web1', head.journalId, {
      reason: 'a test',
      stamp: '1',
      lastOrdinal: 1,
    });
    await write(t, tap, 5, 4 * KiB);
    await eventually('it is broken', async () => {
      const heads = (await tap.report()).status.journal?.heads ?? [];
      return heads.every(({ journalId, state }) => journalId !== head.journalId || state === 'broken');
    });
    await tap.backup();
    await write(t, tap, 5, 4 * KiB);
    const next = await headOf(tap);
    t.not(next.journalId, head.journalId);
    await eventually('it is shipped', () => isThere(receiver, next));
  },
);
