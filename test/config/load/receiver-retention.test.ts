/** `[retention]` of receiver.toml: what it gives and refuses, and that commands give way to it. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { applyRetention } from '../../../src/cli/common/receiver-settings.js';
import { faultText } from '../../../src/config/load/faults.js';
import { checkReceiverConfig } from '../../../src/config/receiver-config.js';
import { managedRetention } from '../../../src/config/schema/retention.js';
import { RetentionService } from '../../../src/receiver/retention/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const DAY_MS = 86_400_000;
const TOML = (store: string) => `store = "${store}"
[retention]
min-age = "14d"
time-zone = "Europe/Berlin"
[[retention.policy]]
keep-daily = 7
keep-within = "8w"
[[retention.policy]]
agent = "web1"
keep-last = 10
[[retention.policy]]
agent = "web1"
device = "data"
keep-all = true
`;

async function writtenIn(t: ExecutionContext, text: string) {
  const directory = await tempDir(t);
  await writeFile(join(directory, 'receiver.toml'), text);
  return checkReceiverConfig(directory);
}

async function faultsOf(t: ExecutionContext, text: string): Promise<string[]> {
  const directory = await tempDir(t);
  await writeFile(join(directory, 'receiver.toml'), text);
  const { faults } = await checkReceiverConfig(directory);
  return faults.map((fault) => faultText(fault).replaceAll(`${directory}/`, ''));
}

test('times of journals are for a scope, once, and from an hour to ten years', async (t) => {
  const { settings, faults } = await writtenIn(
    t,
    `[[retention.journal]]
keep = "48h"
[[retention.journal]]
agent = "web1"
device = "data"
keep = "2w"
`,
  );
  t.deepEqual(faults, []);
  t.deepEqual(managedRetention(settings.retention).journalKeep, [
    { agent: null, device: null, keepMs: 2 * DAY_MS },
    { agent: 'web1', device: 'data', keepMs: 14 * DAY_MS },
  ]);
  const wrong = await faultsOf(
    t,
    `[[retention.journal]]
keep = "0h"
[[retention.journal]]
keep = "11y"
[[retention.journal]]
agent = "web1"
[[retention.journal]]
device = "data"
keep = "1d"
[[retention.journal]]
agent = "db1"
keep = "1d"
[[retention.journal]]
agent = "db1"
keep = "2d"
`,
  );
  t.deepEqual(
    wrong.map((text) => /^receiver.toml:\d+/.exec(text)?.[0]),
    [2, 4, 5, 7, 13].map((line) => `receiver.toml:${line}`),
  );
});

test('policies that say nothing, too much, or the same twice are named with their lines', async (t) => {
  const faults = await faultsOf(
    t,
    `[retention]
min-age = "11y"
time-zone = "Mars/Base"
[[retention.policy]]
agent = "web1"
[[retention.policy]]
keep-daily = 0
[[retention.policy]]
keep-all = true
keep-last = 3
agent = "db1"
[[retention.policy]]
device = "data"
keep-last = 1
[[retention.policy]]
agent = "db2"
keep-last = 1
keep-dayly = 2
[[retention.policy]]
agent = "db2"
keep-last = 1
`,
  );
  t.is(faults.length, 8, faults.join('\n'));
  for (const [line, words] of [
    [2, /ten years/],
    [3, /Mars\/Base/],
    [4, /no rule/],
    [7, /number from 1/],
    [8, /keep-all is given with rules/],
    [12, /names a device, and not its agent/],
    [18, /keep-daily/],
    [19, /another one is for the same/],
  ] as const) {
    t.true(
      faults.some((fault) => fault.startsWith(`receiver.toml:${line}`) && words.test(fault)),
      `${line}: ${faults.join('\n')}`,
    );
  }
});

test('it counts in place of what commands had set, commands are then refused, and it may go again', async (t) => {
  const directory = await tempDir(t);
  const store = join(directory, 'store');
  const configDirectory = join(directory, 'etc');
  await mkdir(configDirectory);
  await createStore(store);
  const opened = await openStore(store);
  t.teardown(() => opened.close());
  const service = new RetentionService({ store: opened, endSessions: async () => undefined });
  const context = { configDirectory, environment: {}, stateDirectory: directory };
  const signal = new AbortController().signal;
  const set = () =>
    service.perform(
      { to: 'set', scope: { agent: null, device: null }, policy: { keepLast: 3 } },
      signal,
      () => undefined,
    );
  await set();
  await writeFile(join(configDirectory, 'receiver.toml'), TOML(store));
  await applyRetention(context, store, service);
  const { policies, timeZone, managedBy } = service.show();
  t.deepEqual(policies, [
    { agent: null, device: null, policy: { keepDaily: 7, keepWithinMs: 56 * DAY_MS } },
    { agent: 'web1', device: null, policy: { keepLast: 10 } },
    { agent: 'web1', device: 'data', policy: { keepAll: true } },
  ]);
  t.deepEqual([timeZone, managedBy], ['Europe/Berlin', join(configDirectory, 'receiver.toml')]);
  await t.throwsAsync(set(), { message: /receiver\.toml/ });
  // A file that names another store says nothing of this one.
  await writeFile(join(configDirectory, 'receiver.toml'), TOML('/srv/other'));
  await applyRetention(context, store, service);
  t.is(service.show().managedBy, null);
  t.is(service.show().policies.length, 3, 'what it had set stays');
  await set();
});
