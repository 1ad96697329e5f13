/** Where schedules and addresses come from: the store, and a configuration that names it. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadReceiverConfig } from '../../../src/config/receiver-config.js';
import type { ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import type { Schedule } from '../../../src/receiver/orders/remote-settings.js';
import {
  hiddenRounds,
  roundsOfConfiguration,
  roundsOfDirectory,
} from '../../../src/receiver/orders/rounds-source.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const NOW = Date.UTC(2026, 4, 1);
const nightly: Schedule = {
  ...{ name: 'nightly', at: 'Mon..Fri 02:00', agents: ['a', 'b'], groups: null, parallel: 3, retries: 1 },
  ...{ waitMs: 20_000, setAt: new Date(NOW).toISOString() },
};
const db: ReceiverGroup = { name: 'db', missing: 'fail', members: [{ agent: 'a', device: 'data' }] };
const web1 = { host: '::1', port: 8441 };

async function makeWorld(t: ExecutionContext) {
  const directory = await tempDir(t);
  const [dir, config] = [join(directory, 'store'), join(directory, 'config')];
  await mkdir(join(dir, 'receiver'), { recursive: true });
  await mkdir(config);
  const load = () => loadReceiverConfig(config);
  let nowMs = NOW;
  const rounds = roundsOfConfiguration(dir, load, () => new Date(nowMs));
  const at = (ms: number) => {
    nowMs = ms;
  };
  return { dir, config, load, rounds, at };
}

for (const kind of ['directory', 'configuration'] as const)
  test(`${kind}: what is set is there, is replaced by name, and is cleared`, async (t) => {
    const world = await makeWorld(t);
    const rounds = kind === 'directory' ? roundsOfDirectory(world.dir) : world.rounds;
    t.deepEqual([await rounds.schedules(), [...(await rounds.addresses())]], [[], []]);
    await rounds.setSchedule(nightly);
    await rounds.setSchedule({ ...nightly, name: 'often', at: 'every 1h', agents: null });
    await rounds.setSchedule({ ...nightly, parallel: 5 });
    const schedules = (await rounds.schedules()).toSorted((a, b) => (a.name < b.name ? -1 : 1));
    t.like(schedules, [
      { ...nightly, parallel: 5 },
      { name: 'often', at: 'every 1h', agents: null },
    ]);
    await rounds.setAddress('web1', web1);
    await rounds.setAddress('web2', { ...web1, port: 1 });
    await rounds.setAddress('web2', null);
    t.deepEqual([...(await rounds.addresses())], [['web1', web1]]);
    await rounds.setGroup({ ...db, missing: 'leave-out' });
    await rounds.setGroup(db);
    t.deepEqual(await rounds.groups(), [db]);
    await rounds.setSchedule({ ...nightly, groups: ['db'] });
    await t.throwsAsync(rounds.removeGroup('db'), {
      ...{ code: 'usage', message: /^group db: schedule nightly backs it up.*clear --name nightly/ },
    });
    await rounds.setSchedule(nightly);
    await rounds.removeGroup('db');
    t.deepEqual(await rounds.groups(), []);
    await t.throwsAsync(rounds.removeGroup('db'), { code: 'usage', message: /no group of this name/ });
    t.deepEqual(await rounds.clearSchedules('often'), ['often']);
    t.deepEqual(await rounds.clearSchedules(null), ['nightly']);
    t.deepEqual(await rounds.schedules(), []);
  });

test('what others wrote into the configuration is refused, with its place', async (t) => {
  const { config, rounds } = await makeWorld(t);
  await writeFile(
    join(config, 'receiver.toml'),
    '[[schedule]]\nname = "nightly"\nat = "daily"\n[dial]\nweb1 = "web1:8441"\n',
  );
  await rounds.setSchedule({ ...nightly, name: 'own' });
  const refused = { code: 'config', message: /it is in .*receiver\.toml:1\. Change it there/ } as const;
  await t.throwsAsync(rounds.setSchedule(nightly), refused);
  await t.throwsAsync(rounds.clearSchedules(null), refused);
  t.is((await rounds.schedules()).length, 2, 'nothing was removed');
  t.deepEqual(await rounds.clearSchedules('own'), ['own']);
  await t.throwsAsync(rounds.setAddress('web1', web1), { code: 'config', message: /receiver\.toml:5/ });
});

test('groups: those of the configuration count first, and commands neither change nor remove them', async (t) => {
  const { dir, config, load, rounds } = await makeWorld(t);
  await roundsOfDirectory(dir).setGroup({ ...db, missing: 'leave-out' });
  await rounds.setGroup({ ...db, name: 'own' });
  await writeFile(
    join(config, 'receiver.toml'),
    `[[group]]
name = "db"
members = ["b/data", "c/log"]
[[schedule]]
name = "often"
at = "hourly"
groups = ["db", "own"]
`,
  );
  const written = [
    { agent: 'b', device: 'data' },
    { agent: 'c', device: 'log' },
  ];
  t.deepEqual(await rounds.groups(), [
    { ...db, members: written },
    { ...db, name: 'own' },
  ]);
  t.like(await rounds.schedules(), [{ name: 'often', agents: null, groups: ['db', 'own'] }]);
  t.regex((await hiddenRounds(dir, await load())).join(), /^group db: .*receiver\.toml:1 counts/);
  const refused = (line: number) =>
    ({
      code: 'config',
      message: new RegExp(`it is in .*receiver\\.toml:${line}\\. Change it there`),
    }) as const;
  await t.throwsAsync(rounds.setGroup(db), refused(1));
  await t.throwsAsync(rounds.removeGroup('db'), refused(1));
  await t.throwsAsync(rounds.removeGroup('own'), {
    ...{
      code: 'usage',
      message: /group own: schedule often, in .*receiver\.toml:4, backs it up\. Take it out/,
    },
  });
  await t.throwsAsync(rounds.checkRename('b', 'x'), refused(1));
  await t.throwsAsync(rounds.checkRename('c', null), refused(1));
  await t.notThrowsAsync(rounds.checkRename('a', 'x'));
  // Its group would go with it.
  await t.throwsAsync(rounds.checkRename('a', null), refused(4));
});

test('what commands wrote follows an agent to another name, and goes with it', async (t) => {
  const { rounds } = await makeWorld(t);
  await rounds.setSchedule(nightly);
  await rounds.setSchedule({ ...nightly, name: 'own', agents: ['a'] });
  await rounds.setSchedule({ ...nightly, name: 'all', agents: null });
  await rounds.setAddress('a', web1);
  await rounds.checkRename('a', 'c');
  // Again, as after a crash in the middle.
  for (let i = 0; i < 2; i += 1) await rounds.renameAgent('a', 'c');
  const named = async () =>
    Object.fromEntries((await rounds.schedules()).map(({ name, agents }) => [name, agents]));
  t.deepEqual(await named(), { nightly: ['b', 'c'], own: ['c'], all: null });
  t.deepEqual([...(await rounds.addresses())], [['c', web1]]);
  await rounds.renameAgent('c', null);
  t.deepEqual(await named(), { nightly: ['b'], all: null });
  t.deepEqual([...(await rounds.addresses())], []);
});

for (const [what, text, line] of [
  ['an address', '[dial]\na = "a:8441"\n', 2],
  ['a schedule', '[[schedule]]\nname = "x"\nat = "daily"\nagents = ["b", "a"]\n', 1],
  [
    'a policy',
    '[[retention.policy]]\nagent = "b"\nkeep-last = 3\n[[retention.policy]]\nagent = "a"\nkeep-last = 3\n',
    4,
  ],
] as const)
  test(`an agent that ${what} of somebody's own names is not renamed`, async (t) => {
    const { config, rounds } = await makeWorld(t);
    await rounds.setAddress('a2', web1);
    await writeFile(join(config, 'receiver.toml'), text);
    const refused = {
      code: 'config',
      message: new RegExp(`it is in .*receiver\\.toml:${line}\\. Change it there`),
    };
    await t.throwsAsync(rounds.checkRename('a', 'c'), refused);
    await t.notThrowsAsync(rounds.checkRename('a2', 'c'));
    if (what === 'a policy') await t.notThrowsAsync(rounds.checkRename('a', null));
    else await t.throwsAsync(rounds.checkRename('a', null), refused);
  });

test('a schedule counts from when it was first seen, and from anew when it is changed', async (t) => {
  const { config, rounds, at } = await makeWorld(t);
  const write = (text: string) => writeFile(join(config, 'receiver.toml'), `[[schedule]]\nat = "${text}"\n`);
  const setAt = async () => Date.parse((await rounds.schedules())[0]?.setAt ?? '') - NOW;
  await write('daily');
  t.is(await setAt(), 0);
  at(NOW + 1000);
  t.is(await setAt(), 0);
  await write('hourly');
  t.is(await setAt(), 1000);
  at(NOW + 2000);
  t.is(await setAt(), 1000);
});

test('what commands have kept counts beside the configuration, but not under a name that it has', async (t) => {
  const { dir, config, load, rounds } = await makeWorld(t);
  const files = roundsOfDirectory(dir);
  await files.setSchedule(nightly);
  await files.setSchedule({ ...nightly, name: 'default', at: 'daily' });
  await files.setAddress('web1', web1);
  await files.setAddress('web2', web1);
  await writeFile(join(config, 'receiver.toml'), '[[schedule]]\nat = "weekly"\n[dial]\nweb2 = "other:1"\n');
  // The user of the receiver's service may not write there.
  const before = await readdir(config);
  t.like(
    (await rounds.schedules()).toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    [{ name: 'default', at: 'weekly' }, nightly],
  );
  t.is((await rounds.schedules()).length, 2);
  t.deepEqual(Object.fromEntries(await rounds.addresses()), { web1, web2: { host: 'other', port: 1 } });
  const [schedule = '', address = '', ...others] = await hiddenRounds(dir, await load());
  t.regex(schedule, /^schedule default: .*receiver\.toml:1 counts/);
  t.regex(address, /^address of agent web2: .*receiver\.toml:4 counts/);
  t.deepEqual(others, []);
  await rounds.setAddress('web3', web1);
  t.deepEqual(await readdir(config), before);
});
