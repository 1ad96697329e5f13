/** `[[group]]`: what it gives, what comes from its members, and what is refused. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkAgentConfig, loadAgentConfig } from '../../../src/config/agent-config.js';
import { faultText } from '../../../src/config/load/faults.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const device = (name: string, more = '') => `[[device]]\nname = "${name}"\npath = "/dev/${name}"\n${more}`;

async function withFiles(t: ExecutionContext, files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await tempDir(t);
  await mkdir(join(directory, 'agent.d'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  return directory;
}

/** Without the directory. */
async function faultsOf(t: ExecutionContext, text: string): Promise<string[]> {
  const directory = await withFiles(t, { 'agent.toml': text });
  const { faults } = await checkAgentConfig(directory);
  return faults.map((fault) => faultText(fault).replaceAll(`${directory}/`, ''));
}

test('a group says what is of the instant; its place and its limit may be those of its members', async (t) => {
  const directory = await withFiles(t, {
    'agent.toml': `store = "/mnt/store"
[defaults]
schedule = "daily"
limit-rate = "10Mbit"
hooks = ["/hook-of-devices"]
[[group]]
name = "db"
members = ["data", "dev-wal"]
schedule = "every 6h"
hooks = ["/hook"]
quiet = 2
announce = "wall"
missing = "leave-out"
`,
    'agent.d/data.toml': device('data', 'schedule = "Mon 02:00"\n'),
    'agent.d/wal.toml': '[[device]]\npath = "/dev/wal"\n',
    'agent.d/z.toml':
      '[[group]]\nname = "all"\nmembers = ["dev-wal", "data"]\nreceiver = "https://r:1"\nlimit-rate = "5Mbit"\n',
  });
  const { groups, devices } = await loadAgentConfig(directory);
  t.like(groups, {
    length: 2,
    0: {
      ...{ name: 'db', members: ['data', 'dev-wal'], missing: 'leave-out', enabled: true },
      ...{ schedule: { text: 'every 6h' }, hooks: ['/hook'], quiet: { quietMs: 2000, deadlineMs: 60_000 } },
      ...{ announce: { program: 'wall', graceMs: 120_000, isRequired: false }, freeze: 'auto' },
      ...{ store: '/mnt/store', receiver: null, limitRate: { otherwise: 1_250_000 }, retriesMax: 5 },
      ...{ staleAfterMs: 2 * 86_400_000, origin: { line: 6 } },
    },
    1: {
      ...{ name: 'all', missing: 'fail', receiver: 'https://r:1', store: null, schedule: null, hooks: [] },
      ...{ limitRate: { otherwise: 625_000 }, announce: null, quiet: null },
    },
  });
  t.like(devices[0], { schedule: { text: 'Mon 02:00' }, hooks: ['/hook-of-devices'] }, 'it keeps its own');
});

test('what is wrong with a group is told with file, line and key', async (t) => {
  const told = await faultsOf(
    t,
    `${device('a')}${device('b')}${device('off', 'enabled = false\n')}[[device]]
name = "vm-{}"
path = "/srv/*.raw"
[[group]]
name = "a"
members = ["a", "b"]
[[group]]
name = "g"
members = ["a", "c", "a", "nowhere"]
[[group]]
name = "g"
members = ["a"]
[[group]]
name = "h"
members = ["a", "off", "vm-x"]
receiver = "https://r:1"
store = "/s"
[[group]]
members = ["a", "b"]
missing = "leave"
shedule = "daily"
[[group]]
name = "i"
members = "a, b"
enabled = false
provider = "lvm"
`,
  );
  const expected = [
    'agent.toml:15: group.name: a is the name of the device in agent.toml:1, too. Choose another name for the group.',
    'agent.toml:19: group.members: no device has the name c. Did you mean a?',
    'agent.toml:19: group.members: a is there twice.',
    'agent.toml:19: group.members: no device has the name nowhere. Write a [[device]] of that name. What wildcards match can not be a member.',
    'agent.toml:21: group.name: g is the name of the group in agent.toml:17, too. Choose another name for the group.',
    'agent.toml:22: group.members: it is ["a"], and has to be a list of 2 to 32 names of devices.',
    'agent.toml:27: group.store: it has a receiver, too. Keep one of the two.',
    'agent.toml:25: group.members: no device has the name vm-x. Write a [[device]] of that name. What wildcards match can not be a member.',
    'agent.toml:25: group.members: off is not enabled. Remove it from the group, or disable the group.',
    'agent.toml:28: group.name: it is missing. Write for example: name = "db".',
    'agent.toml:30: group.missing: it is "leave", and has to be "fail" or "leave-out".',
    'agent.toml:31: group.shedule: there is no such key. Did you mean schedule?',
    'agent.toml:34: group.members: it is "a, b", and has to be a list of 2 to 32 names of devices.',
  ];
  for (const text of expected) t.true(told.includes(text), `${text}\n${told.join('\n')}`);
  t.true(told.some((text) => text.startsWith('agent.toml:36: group.provider: there is no such key.')));
  t.is(told.length, expected.length + 1, told.join('\n'));
});

test('members of one group go to one place, at one rate, unless the group says another', async (t) => {
  const devices = `store = "/one"\n${device('a')}${device('b', 'store = "/two"\nlimit-rate = "1M"\n')}`;
  const group = '[[group]]\nname = "g"\nmembers = ["a", "b"]\n';
  t.deepEqual(await faultsOf(t, `${devices}${group}`), [
    'agent.toml:12: group.members: the backups of a and b go to different places. Write a receiver or a store for the group.',
    'agent.toml:12: group.members: a and b have different limits of their rate. Write limit-rate for the group.',
  ]);
  t.deepEqual(await faultsOf(t, `${devices}${group}store = "/two"\nlimit-rate = "2M"\n`), []);
});

test('a file that is checked by itself may name devices of others', async (t) => {
  const directory = await withFiles(t, {
    'agent.d/db.toml': '[[group]]\nname = "db"\nmembers = ["data", "wal"]\n',
  });
  t.deepEqual((await checkAgentConfig(directory, [join(directory, 'agent.d/db.toml')])).faults, []);
  t.is((await checkAgentConfig(directory)).faults.length, 2);
});
