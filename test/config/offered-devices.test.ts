/** `agent add` and `agent remove` as drop-ins, and what a former version kept. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { z } from 'zod';
import { adoptFormerOffers } from '../../src/agent/state/former-offers.js';
import { checkAgentConfig, expandDevices, loadAgentConfig } from '../../src/config/agent-config.js';
import {
  addDevice,
  dropInLines,
  type OfferedDevice,
  removeDevice,
} from '../../src/config/offered-devices.js';
import { writeStateFile } from '../../src/config/state-file.js';
import { OFFERS_MAX } from '../../src/domain/base/limits.js';
import { parseRateLimit } from '../../src/domain/session/rate-limit.js';
import { tempDir } from '../helpers/disks/temp-dir.js';

const full: OfferedDevice = {
  ...{ name: 'data', path: '/dev/disk/by-id/"odd"\u007f\n', provider: 'tap', blockSize: 4096 },
  ...{
    compressionLevel: 7,
    patch: 'never',
    limitRate: parseRateLimit('08:00-24:00=56kbit,10M'),
    fuzzy: true,
  },
  ...{ hooks: ['/hooks/a', '/hooks/b'], freeze: ['/srv'], freezeDeadlineMs: 1500, hookDeadlineMs: 2000 },
  ...{ quiet: { quietMs: 2500, deadlineMs: 9000 } },
};

test('a device that is added is read back as it was given, and is taken once', async (t) => {
  const directory = await tempDir(t);
  const load = () => loadAgentConfig(directory);
  await addDevice(await load(), { ...full, schedule: 'daily' });
  const [device] = (await expandDevices((await load()).devices)).devices;
  t.like(device, { ...full, limitRate: full.limitRate ?? null });
  t.is(device?.schedule?.text, 'daily');
  await t.throwsAsync(async () => addDevice(await load(), full), {
    code: 'config',
    message: /data\.toml:2\. Remove it first/,
  });
  await writeFile(join(directory, 'agent.toml'), '[[device]]\nname = "own"\npath = "/dev/x"\n');
  await t.throwsAsync(async () => addDevice(await load(), { ...full, name: 'own' }), {
    code: 'config',
    message: /agent\.toml:1\. Choose another name/,
  });
  await t.throwsAsync(async () => removeDevice(await load(), 'own'), {
    code: 'config',
    message: /agent\.toml:1/,
  });
  // A drop-in that has come to hold more is not removed with it.
  const file = join(directory, 'agent.d/data.toml');
  const text = await readFile(file, 'utf8');
  await writeFile(file, `${text}[[device]]\nname = "more"\npath = "/dev/y"\n`);
  await t.throwsAsync(async () => removeDevice(await load(), 'data'), { code: 'config' });
  await writeFile(file, text);
  const group = '[[group]]\nname = "g"\nmembers = ["own", "data"]\nlimit-rate = "1M"\n';
  const own = '[[device]]\nname = "own"\npath = "/dev/x"\n';
  await writeFile(join(directory, 'agent.toml'), `${own}${group}`);
  await t.throwsAsync(async () => addDevice(await load(), { ...full, name: 'g' }), {
    code: 'config',
    message: /a group has this name, in .*agent\.toml:4/,
  });
  await t.throwsAsync(async () => removeDevice(await load(), 'data'), {
    code: 'config',
    message: /it is a member of group g/,
  });
  await writeFile(join(directory, 'agent.toml'), own);
  await removeDevice(await load(), 'data');
  t.deepEqual(await readdir(join(directory, 'agent.d')), []);
  await t.throwsAsync(async () => removeDevice(await load(), 'data'), { code: 'device-unknown' });
});

test("somebody's own file is never written over, whatever is in it", async (t) => {
  const directory = await tempDir(t);
  const file = join(directory, 'agent.d/data.toml');
  const text = '# of ours\n[[device]]\nname = "other"\npath = "/dev/y"\n';
  await mkdir(join(directory, 'agent.d'));
  await writeFile(file, text);
  await t.throwsAsync(addDevice(await loadAgentConfig(directory), full), {
    code: 'config',
    message: /data\.toml: no command wrote this file/,
  });
  t.is(await readFile(file, 'utf8'), text);
});

test('there is a limit', async (t) => {
  const directory = await tempDir(t);
  const many = Array.from({ length: OFFERS_MAX }, (_, n) => `[[device]]\nname = "d${n}"\npath = "/d${n}"\n`);
  await writeFile(join(directory, 'agent.toml'), many.join(''));
  const config = await loadAgentConfig(directory);
  await t.throwsAsync(addDevice(config, full), { code: 'config', message: /the limit/ });
});

test('any text comes back from a drop-in as it was', async (t) => {
  const directory = await tempDir(t);
  const file = join(directory, 'agent.toml');
  await fc.assert(
    fc.asyncProperty(
      fc.string({ unit: 'binary', maxLength: 40 }).filter((each) => !/\p{Surrogate}/u.test(each)),
      async (text) => {
        const path = `/${text}`;
        await writeFile(file, `${dropInLines({ name: 'x', path }).join('\n')}\n`);
        const { devices, faults } = await checkAgentConfig(directory);
        t.deepEqual([devices[0]?.path, faults.filter(({ line }) => line !== 1)], [path, []]);
      },
    ),
    { numRuns: 60 },
  );
});

test('what a former version kept goes over once, and its files go last', async (t) => {
  const directory = await tempDir(t);
  const [state, config] = [join(directory, 'state'), join(directory, 'config')];
  await mkdir(join(state, 'offers'), { recursive: true });
  const format = { format: 'stillpoint-offer', version: 1, schema: z.any() };
  const keep = (name: string, path: string) =>
    writeStateFile(join(state, 'offers', `${name}.json`), format, {
      ...full,
      ...{ name, path, limitRate: full.limitRate ?? null, addedAt: '2026-01-01T00:00:00.000Z' },
    });
  await keep('data', '/dev/sdb');
  await keep('other', '/dev/sdc');
  const load = () => loadAgentConfig(config);
  t.deepEqual(await adoptFormerOffers(state, await load()), ['data', 'other']);
  t.deepEqual(await readdir(join(state, 'offers')), []);
  const { devices } = await expandDevices((await load()).devices);
  t.deepEqual(
    devices.map(({ name, path }) => [name, path]),
    [
      ['data', '/dev/sdb'],
      ['other', '/dev/sdc'],
    ],
  );
  t.like(devices[0], { provider: 'tap', freezeDeadlineMs: 1500, quiet: { quietMs: 2500 } });
  t.deepEqual(await adoptFormerOffers(state, await load()), []);
  // It died after the drop-in was written.
  await keep('data', '/dev/sdb');
  t.deepEqual(await adoptFormerOffers(state, await load()), ['data']);
  t.is((await load()).devices.length, 2);
  await keep('data', '/dev/elsewhere');
  await t.throwsAsync(async () => adoptFormerOffers(state, await load()), {
    code: 'config',
    message: /agent\.d\/data\.toml:2 has \/dev\/sdb.*offers\/data\.json/,
  });
  t.deepEqual(await readdir(join(state, 'offers')), ['data.json'], 'nothing is lost');
});
