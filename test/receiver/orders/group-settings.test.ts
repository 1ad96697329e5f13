/** The receiver's groups as they are kept, and what becomes of them when an agent is renamed or removed. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { GROUPS_MAX } from '../../../src/domain/base/limits.js';
import type { ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import { initReceiver, receiverDirectory } from '../../../src/receiver/access/identity.js';
import {
  findGroup,
  readGroups,
  removeGroup,
  writeGroup,
} from '../../../src/receiver/orders/group-settings.js';
import {
  readSchedules,
  renameInSettings,
  writeSchedule,
} from '../../../src/receiver/orders/remote-settings.js';
import { createStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { refused } from '../../helpers/refused.js';

const DB: ReceiverGroup = {
  ...{ name: 'db', missing: 'fail' },
  members: [
    { agent: 'db1', device: 'data' },
    { agent: 'db2', device: 'log' },
  ],
};
const APP: ReceiverGroup = { name: 'app', missing: 'leave-out', members: [{ agent: 'db2', device: 'app' }] };

async function makeDirectory(t: ExecutionContext): Promise<string> {
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  return dir;
}

test('groups are kept by their names, up to a limit', async (t) => {
  const dir = await makeDirectory(t);
  t.deepEqual(await readGroups(dir), []);
  await refused(t, removeGroup(dir, 'db'), 'usage', /no group of this name.*group set/);
  await writeGroup(dir, DB);
  await writeGroup(dir, APP);
  const changed = { ...DB, missing: 'leave-out' } as const;
  await writeGroup(dir, changed);
  t.deepEqual(await readGroups(dir), [APP, changed]);
  await refused(t, removeGroup(dir, 'etc'), 'usage', /Its groups are app, db/);
  for (let at = 2; at < GROUPS_MAX; at += 1) await writeGroup(dir, { ...APP, name: `g${at}` });
  await refused(t, writeGroup(dir, { ...APP, name: 'more' }), 'usage', /32 is the limit/);
});

test('members go with their agent to its new name, and leave with it', async (t) => {
  const dir = await makeDirectory(t);
  await writeGroup(dir, DB);
  await writeGroup(dir, APP);
  for (let again = 0; again < 2; again += 1) await renameInSettings(dir, 'db1', 'pg');
  t.deepEqual(findGroup(await readGroups(dir), 'db').members, [
    { agent: 'pg', device: 'data' },
    { agent: 'db2', device: 'log' },
  ]);
  for (let again = 0; again < 2; again += 1) await renameInSettings(dir, 'db2', null);
  t.deepEqual(findGroup(await readGroups(dir), 'db').members, [{ agent: 'pg', device: 'data' }]);
  t.is((await readGroups(dir)).length, 1, 'a group without members is none');
  await removeGroup(dir, 'db');
  t.false(existsSync(join(receiverDirectory(dir), 'groups.json')));
});

test('a group that goes with its agent leaves the schedules that name it', async (t) => {
  const dir = await makeDirectory(t);
  await writeGroup(dir, DB);
  await writeGroup(dir, APP);
  const schedule = {
    ...{ at: 'daily', parallel: 1, waitMs: 0, retries: 0, setAt: '2026-05-01T00:00:00.000Z' },
  };
  const choices = {
    app: { agents: null, groups: ['app'] },
    both: { agents: null, groups: ['db', 'app'] },
    beside: { agents: ['db1'], groups: ['app'] },
    instead: { agents: ['db2'], groups: ['db'] },
    all: { agents: null, groups: null },
  };
  for (const [name, choice] of Object.entries(choices))
    await writeSchedule(dir, { ...schedule, name, ...choice });
  for (let again = 0; again < 2; again += 1) await renameInSettings(dir, 'db2', null);
  t.deepEqual(
    Object.fromEntries(
      (await readSchedules(dir)).map(({ name, agents, groups }) => [name, { agents, groups }]),
    ),
    {
      both: { agents: null, groups: ['db'] },
      beside: { agents: ['db1'], groups: null },
      instead: { agents: null, groups: ['db'] },
      all: { agents: null, groups: null },
    },
  );
});
