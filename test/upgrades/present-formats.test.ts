/**
 * Fixtures of the formats that are the present ones when they were made: read, restored from, continued and
 * kept in step. They stay for ever, so a format that changes without a new version fails here.
 */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readAcknowledged } from '../../src/agent/state/acknowledged-point.js';
import { findEnrolment } from '../../src/agent/state/enrolment.js';
import { readKeptSession } from '../../src/agent/state/kept-session.js';
import { EXIT_OK } from '../../src/cli/output/exit-codes.js';
import { type GroupPoint, groupPoints } from '../../src/domain/point/group.js';
import type { Point } from '../../src/domain/point/point.js';
import { native } from '../../src/native/index.js';
import { loadIdentity, readAuthority } from '../../src/receiver/access/identity.js';
import { Tenants } from '../../src/receiver/access/tenants.js';
import { readAddresses, readSchedules } from '../../src/receiver/orders/remote-settings.js';
import { openStore, openStoreForReading } from '../../src/store/open.js';
import type { Store } from '../../src/store/port/store.js';
import { listTaps } from '../../src/tap/registry/registry.js';
import { readStart } from '../../src/tap/source/continuity-facts.js';
import { makeBatch } from '../helpers/bytes/hand-made-batch.js';
import {
  ADDRESS,
  BETA_STATE,
  BLOCK,
  DISK_STATES,
  ENDED,
  GROUP,
  imageOf,
  JOURNAL,
  KEPT_SESSION,
  OPEN,
  pointId,
  REMOVED_SEQUENCE,
  SCHEDULE,
} from '../helpers/fixtures/former-states.js';
import { contentsOf, unpacked } from '../helpers/fixtures/unpacked.js';
import { lastResult, type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';
import {
  change,
  commitRequest,
  type DeviceState,
  holds,
  stampedBlock,
} from '../helpers/worlds/store-device.js';

/** A day after it was made: what it has of sessions is kept still. */
const now = () => new Date('2026-02-04T04:05:00.000Z');
const [, , third] = DISK_STATES as [DeviceState, DeviceState, DeviceState];

/** Only stores of version 4 and later have journals. */
async function checkJournal(t: ExecutionContext, store: Store, fixture: string): Promise<void> {
  const journals = await store.journals.list({});
  if (['store-2', 'store-3'].includes(fixture)) return void t.deepEqual(journals, []);
  const { position, records, last, end, audit } = JOURNAL;
  const { journalId, clockId, ...first } = position;
  const key = { agent: 'beta', device: 'disk', journalId, clockId };
  t.deepEqual(journals, [{ ...key, first, last, sizeBytes: records.length, end, audits: [audit] }]);
  const read = { afterOrdinal: 0, throughStamp: last.stamp, bytesMax: records.length };
  t.deepEqual(await store.journals.records('beta', journalId, read), records);
  t.deepEqual((await store.points({ agent: 'beta' }))[0]?.journal, position);
}

/** Only stores of version 4 and later have groups. */
async function checkGroup(t: ExecutionContext, store: Store, fixture: string): Promise<void> {
  const groups = groupPoints(await store.points({}));
  if (['store-2', 'store-3'].includes(fixture)) return void t.deepEqual(groups, []);
  t.is(groups.length, 1);
  const [group] = groups as [GroupPoint];
  t.like(group, { agent: 'alpha', name: GROUP.name, sequence: 1, missing: [] });
  t.deepEqual(
    group.points.map(({ device }) => device),
    GROUP.devices,
  );
  for (const point of group.points) t.true(await holds(store, point, BETA_STATE));
}

async function checkStore(t: ExecutionContext, store: Store): Promise<void> {
  const points = await store.points({ agent: 'alpha', device: 'disk' });
  t.deepEqual(
    points.map(({ id, sequence, committedAt }) => [id, sequence, committedAt.slice(0, 10)]),
    [
      [pointId(0), 1, '2026-02-03'],
      [pointId(2), 3, '2026-02-03'],
    ],
  );
  for (const point of points)
    t.true(await holds(store, point, DISK_STATES[point.sequence - 1] as DeviceState));
  const [beta] = await store.points({ agent: 'beta' });
  t.true(beta !== undefined && (await holds(store, beta, BETA_STATE)));
  t.deepEqual(
    store.retention.settings.pins.map(({ pointId: pinned, reason }) => [pinned, reason]),
    [[pointId(0), 'the fixture keeps it']],
  );
  t.is(store.retention.settings.policies[0]?.policy.keepDaily, 7);
  t.like(await store.removedPoint({ agent: 'alpha', device: 'disk' }, REMOVED_SEQUENCE), {
    ...{ id: pointId(1), why: 'the fixture wants a mark' },
  });
  t.deepEqual(
    (await store.partialSets({ agent: 'alpha' })).map(({ sessionId, state }) => [sessionId, state]),
    [
      [OPEN, 'open'],
      [ENDED, 'ended'],
    ],
  );
  for await (const event of store.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
}

for (const fixture of ['store-2', 'store-3', 'store-4']) {
  test(`${fixture}: a reader reads it and changes nothing`, async (t) => {
    const dir = await unpacked(t, `${fixture}.tar.gz`);
    const before = await contentsOf(dir);
    const store = await openStoreForReading(dir, { now });
    await checkStore(t, store);
    await checkGroup(t, store, fixture);
    await checkJournal(t, store, fixture);
    await store.close();
    t.deepEqual(await contentsOf(dir), before);
  });

  test(`${fixture}: a writer goes on with its session, and both agents get their next points`, async (t) => {
    const dir = await unpacked(t, `${fixture}.tar.gz`);
    const store = await openStore(dir, { now });
    t.teardown(() => store.close());
    await checkStore(t, store);
    await checkGroup(t, store, fixture);
    await checkJournal(t, store, fixture);
    const open = store.captures().find(({ description }) => description.sessionId === OPEN);
    t.is(open?.durableSequence, 1);
    await open?.append(2, makeBatch(OPEN, 2, [{ blockIndex: 1, bytes: stampedBlock(7, BLOCK) }]));
    const fourth = change(third, [
      [0, 9],
      [1, 7],
    ]);
    const point = await open?.commit(commitRequest(fourth, 2));
    t.is(point?.sequence, 4);
    t.true(point !== undefined && (await holds(store, point, fourth)));
    const [old] = await store.points({ agent: 'alpha', device: 'disk' });
    const changed: number[] = [];
    for await (const event of store.diff(old as Point, point as Point))
      if (event.type === 'ranges') for (const [start] of event.ranges) changed.push(start);
    t.deepEqual(changed, [0, 5, 20, 39], '0 and 1, 5 and 6 are one range each');
  });
}

/** With the state of the fixture. */
async function machineOf(t: ExecutionContext): Promise<{ machine: Machine; dir: string }> {
  const dir = await unpacked(t, 'machine-1.tar.gz');
  const stateDirectory = join(dir, 'state');
  const machine = await makeMachine(t);
  return {
    dir,
    machine: { ...machine, stateDirectory, env: { ...machine.env, STILLPOINT_STATE: stateDirectory } },
  };
}

test('machine-1: its points are restored, compared with, and continued from its tree', async (t) => {
  const { dir, machine } = await machineOf(t);
  const [store, image, target] = ['store', 'disk.img', 'restored.img'].map((name) => join(dir, name));
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await runHere(machine, '--json', ...args, '--store', store as string);
    t.is(code, EXIT_OK, stderr + stdout);
    return stdout;
  };
  await run('restore', 'disk@1', target as string);
  t.deepEqual(await readFile(target as string), imageOf(DISK_STATES[0] as DeviceState));
  await run('compare', image as string, 'disk@2');
  await writeFile(image as string, imageOf(third));
  const told = await run(
    'backup',
    image as string,
    '--name',
    'disk',
    '--block-size',
    '4K',
    '--accept-identity',
  );
  t.false(/can't be used|damaged|no tree/.test(told), told);
  const { point } = lastResult<{ point: Point }>(told);
  t.is(point.sequence, 3);
  t.is(point.statistics.changedBytes, BLOCK, 'only what differs from the tree was sent');
});

test('machine-1: agent, tap and receiver find all that they remembered', async (t) => {
  const { dir } = await machineOf(t);
  const [state, store] = [join(dir, 'state'), join(dir, 'store')] as const;
  const enrolment = await findEnrolment(state);
  t.is(enrolment.agent, 'web');
  const kept = join(state, 'stores', '0'.repeat(32), 'local', 'kept');
  t.deepEqual(await readKeptSession(kept), KEPT_SESSION);
  const reader = await openStoreForReading(store);
  const { storeId } = reader;
  const [last] = (await reader.points({ device: 'disk' })).slice(-1);
  await reader.close();
  const known = await readAcknowledged(join(state, 'stores', storeId, 'local', 'disk'));
  t.deepEqual([known?.id, known?.sequence], [last?.id, 2]);

  const [tap] = await listTaps(state);
  t.is(tap?.settings.name, 'tapped');
  const map = await native.readTapMap(join(state, 'taps', 'tapped', 'map'));
  t.true(map?.clean, JSON.stringify(map));
  t.not(await readStart(join(state, 'taps', 'tapped', 'started.json')), null);

  const certificate = createHash('sha256')
    .update((await readAuthority(store)).certificate)
    .digest('hex');
  const { settings, authority } = await loadIdentity(store, now());
  t.is(settings.url, 'https://receiver.example:8440');
  t.is(settings.id, enrolment.receiverId);
  t.is(createHash('sha256').update(authority.certificate).digest('hex'), certificate);
  t.deepEqual((await Tenants.open(store, authority)).names(), ['web']);
  const { parallel, waitMs, agents, setAt } = SCHEDULE;
  t.like((await readSchedules(store))[0], { name: 'default', parallel, waitMs, agents, setAt });
  t.deepEqual((await readAddresses(store)).get('web'), ADDRESS);
});
