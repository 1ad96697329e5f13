/** Files of the agent's configuration: what they give, and what is said of those that are wrong. */
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkAgentConfig, expandDevices, loadAgentConfig } from '../../../src/config/agent-config.js';
import { faultText } from '../../../src/config/load/faults.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

async function withFiles(t: ExecutionContext, files: Readonly<Record<string, string | Buffer>>) {
  const directory = await tempDir(t);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

/** Without the directory. */
async function faultsOf(t: ExecutionContext, files: Readonly<Record<string, string | Buffer>>) {
  const directory = await withFiles(t, files);
  const { faults } = await checkAgentConfig(directory);
  return faults.map((fault) => faultText(fault).replaceAll(`${directory}/`, ''));
}

test('no files are a configuration: presets, and no devices', async (t) => {
  const directory = join(await tempDir(t), 'nowhere');
  const { settings, devices, files } = await loadAgentConfig(directory);
  t.like(settings, {
    parallel: 4,
    store: null,
    receivers: null,
    limits: { 'cpu-nice': 0, 'io-class': null },
  });
  t.deepEqual([devices, files], [[], []]);
});

test('drop-ins follow by name; defaults count where a device says nothing; each value knows its place', async (t) => {
  const directory = await withFiles(t, {
    'agent.toml': `parallel = 2
store = "/mnt/backup"
[defaults]
schedule = "daily"
compression = 3
quiet = 2
[[device]]
name = "data"
path = "/dev/sdb1"
schedule = "Mon..Fri 02:00"
freeze = ["/srv", "/var"]
limit-rate = "08:00-18:00=56kbit,10M"
[[device]]
path = "/dev/vg/root"
receiver = "https://r.example.net:8440"
`,
    'agent.d/b.toml': 'parallel = 3\n[[device]]\nname = "b"\npath = "/b"\nquiet = 0.5\nblock-size = "4K"\n',
    'agent.d/a.toml':
      'parallel = 9\n[[device]]\nname = "a"\npath = "/a"\nenabled = false\n[defaults]\nfull-every = "30d"\n',
    'agent.d/.c.toml': 'not read',
    'agent.d/c.txt': 'not read',
  });
  const { settings, devices, values } = await loadAgentConfig(directory);
  t.is(settings.parallel, 3);
  t.like(devices, {
    length: 4,
    0: {
      ...{ name: 'data', schedule: { text: 'Mon..Fri 02:00' }, compressionLevel: 3, store: '/mnt/backup' },
      ...{ freeze: ['/srv', '/var'], quiet: { quietMs: 2000, deadlineMs: 60_000 }, receiver: null },
      ...{ limitRate: { otherwise: 10 * 1024 * 1024 }, fullEveryMs: 30 * 86_400_000, blockSize: null },
    },
    1: { name: null, schedule: { text: 'daily' }, receiver: 'https://r.example.net:8440', store: null },
    2: { name: 'a', enabled: false },
    3: { name: 'b', quiet: { quietMs: 500 }, blockSize: 4096, freeze: 'auto', retriesMax: 5 },
  });
  t.deepEqual(
    (await expandDevices(devices)).devices.map(({ name }) => name),
    ['data', 'dev-vg-root', 'a', 'b'],
  );
  const place = (key: string) => {
    const { origin = null } = values.find((value) => value.key === key) ?? {};
    return origin === null ? null : `${origin.file.slice(directory.length + 1)}:${origin.line}`;
  };
  t.is(place('parallel'), 'agent.d/b.toml:1');
  t.is(place('device[0].schedule'), 'agent.toml:10');
  t.is(place('device[1].schedule'), 'agent.toml:4', 'that of the defaults');
  t.is(place('device[3].quiet'), 'agent.d/b.toml:5');
  t.is(place('device[3].fuzzy'), null);
});

test('all faults are told at once, each with file, line, key, what was found, what is allowed, and a hint', async (t) => {
  const told = await faultsOf(t, {
    'agent.toml': `parralel = 2
parallel = 200
limits = 3
[defaults]
shedule = "daily"
schedule = "noonish"
retries = -1
[[device]]
name = "x"
path = "dev/sdb1"
provider = "tab"
freeze-deadline = "soon"
[[device]]
name = "y/z"
path = "/y"
receiver = "https://r:1"
store = "/s"
[[device]]
name = "w"
[[device]]
name = "vm"
path = "/srv/*.raw"
[defaults.more]
`,
    'agent.d/a.toml':
      '[[device]]\nname = "t"\npath = "/t"\n[[device]]\nname = "t"\npath = "/other"\nhooks = "one"\nenabled = 2027-01-01\n',
    'agent.d/b.toml': 'fine = 1\nbroken = [1,\n',
    'agent.d/c.toml': Buffer.from([0x61, 0xff]),
    'agent.d/d.toml': `a = "${'x'.repeat(300_000)}"`,
    'agent.d/e.toml': 'device = 5\ndefaults = 1\n',
  });
  t.snapshot(told);
  for (const [line, ...words] of [
    ['agent.toml:1: parralel', 'there is no such key', 'Did you mean parallel?'],
    ['agent.toml:2: parallel', 'it is 200', 'a number from 1 to 64'],
    ['agent.toml:5: defaults.shedule', 'Did you mean schedule?'],
    ['agent.toml:6: defaults.schedule', 'it is "noonish"', 'Mon..Fri 02:00'],
    ['agent.toml:11: device.provider', 'it is "tab"', '"tap", "live"'],
    ['agent.toml:18: device.path', 'it is missing'],
    ['agent.d/a.toml:4: device.name', 'agent.d/a.toml:1'],
    ['agent.d/b.toml:3', 'invalid'],
    ['agent.d/c.toml: it is not UTF-8'],
    ['agent.d/d.toml: it has more than 256 KiB'],
  ]) {
    const found = told.find((text) => text.startsWith(`${line}:`) || text.startsWith(`${line}.`));
    t.truthy(found, line);
    for (const word of words) t.true(found?.includes(word), `${found}: ${word}`);
  }
  t.true(told.length >= 20, String(told.length));
});

test('defaults name one place for backups, too', async (t) => {
  t.deepEqual(await faultsOf(t, { 'agent.toml': '[defaults]\nreceiver = "https://r:1"\nstore = "/s"\n' }), [
    'agent.toml:3: defaults.store: there is a receiver, too. Keep one of the two.',
  ]);
});

test('wildcards that are none are a fault, not a surprise later', async (t) => {
  const device = '[[device]]\nname = "vm-{}"\n';
  t.deepEqual(
    await faultsOf(t, {
      'agent.toml': `${device}path = "/srv/[z-a].raw"\n${device}path = "/srv/[!a-z].raw"\nexclude = ["/srv/[9-0]*"]\n`,
    }),
    [
      'agent.toml:1: device.path: "/srv/[z-a].raw" has brackets with a range that runs backwards.',
      'agent.toml:4: device.exclude: "/srv/[9-0]*" has brackets with a range that runs backwards.',
    ],
  );
});

test('wildcards: names by template, exclusions, one of several links, and nothing dropped silently', async (t) => {
  const directory = await tempDir(t);
  for (const name of ['a.raw', 'b.raw', 'skip.raw', 'é.raw', 'other.img', '.hidden.raw'])
    await writeFile(join(directory, name), '');
  await symlink(join(directory, 'a.raw'), join(directory, 'z-link.raw'));
  await symlink(join(directory, 'nowhere'), join(directory, 'dangling.raw'));
  const config = await withFiles(t, {
    'agent.toml': `[[device]]
name = "vm-{}"
path = "${directory}/*.raw"
exclude = ["${directory}/sk?p.*"]
[[device]]
name = "vm-b"
path = "/dev/null"
[[device]]
path = "${directory}/[op]ther.*"
[[device]]
name = "{}{}"
path = "${directory}/none/*"
`,
  });
  const { devices: configured } = await loadAgentConfig(config);
  const { devices, problems } = await expandDevices(configured);
  t.deepEqual(
    devices.map(({ name, path, pattern }) => [name.replace(/^.*other/, 'other'), path, pattern !== null]),
    [
      ['vm-b', '/dev/null', false],
      ['vm-a', join(directory, 'a.raw'), true],
      ['vm--', join(directory, 'é.raw'), true],
      ['other.img', join(directory, 'other.img'), true],
    ],
  );
  t.deepEqual(problems, [`${directory}/b.raw: its name would be vm-b, which is that of /dev/null`]);
  await rm(join(directory, 'a.raw'));
  const later = (await expandDevices(configured)).devices.map(({ name }) => name);
  t.false(later.includes('vm-a'));
});
