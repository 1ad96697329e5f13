/** The shapes that programs rely on. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_OK } from '../../src/cli/output/exit-codes.js';
import { enrolled } from '../helpers/machines/enrolled.js';
import { makeMachine, run, runHere } from '../helpers/machines/stillpoint.js';

interface Event {
  readonly event: string;
  readonly [field: string]: unknown;
}

function parse(stdout: string): Event[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Event);
}

test('backup, points, restore and verify end with one result each', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  const content = Buffer.concat([Buffer.alloc(100_000, 'some'), Buffer.alloc(200_000)]);
  await writeFile(image, content);
  const result = async (...args: string[]): Promise<Event> => {
    const { code, stdout, stderr } = await runHere(machine, ...args, '--store', store, '--json');
    t.is(code, EXIT_OK, stdout);
    t.is(stderr, '');
    const events = parse(stdout);
    t.is(events.filter(({ event }) => event === 'result').length, 1);
    t.is(events.at(-1)?.event, 'result');
    return events.at(-1) ?? { event: '' };
  };

  const backup = await result('backup', image, '--name', 'disk');
  t.like(backup, {
    warnings: [],
    base: { start: 'empty' },
    point: {
      agent: 'local',
      device: 'disk',
      sequence: 1,
      baseSequence: null,
      geometry: { sizeBytes: 300_000, blockSize: 65_536 },
      kind: 'idle',
      provider: 'offline',
      badRanges: [],
      statistics: { scannedBytes: 300_000 },
    },
  });
  t.is(typeof backup.wireBytes, 'number');

  const points = await result('points');
  t.deepEqual(points.points, [backup.point]);
  t.deepEqual((await result('points', 'disk')).points, [backup.point]);

  const target = join(machine.directory, 'restored.img');
  const restore = await result('restore', 'disk@1', target, '--verify');
  t.like(restore, { target, isVerified: true, warnings: [], point: { sequence: 1 } });
  t.like(restore, { writtenBytes: 131_072, readBytes: 0, differingBytes: null });
  await writeFile(target, Buffer.alloc(300_000, 'some'));
  const again = await result('restore', 'disk@1', target, '--overwrite');
  t.like(again, { writtenBytes: 65_536, readBytes: 300_000, differingBytes: 300_000 - 65_536 });

  t.like(await result('verify'), { pointCount: 1, findingCount: 0, findings: [] });
});

test('restore to standard output writes the bytes there, and nothing else', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  const content = 'line\n'.repeat(30_000);
  await writeFile(image, content);
  t.is((await runHere(machine, 'backup', image, '--name', 'disk', '--store', store)).code, EXIT_OK);
  for (const flags of [[], ['--json'], ['--quiet']]) {
    const { code, stdout, stderr } = await run(
      machine,
      'restore',
      'disk@latest',
      '-',
      '--store',
      store,
      ...flags,
    );
    t.is(code, EXIT_OK, stderr);
    t.true(stdout === content);
    if (flags.includes('--json')) t.is(parse(stderr).at(-1)?.event, 'result');
    if (flags.includes('--quiet')) t.is(stderr, '');
  }
});

test('an invite for programs', async (t) => {
  const machine = await makeMachine(t);
  const init = await runHere(
    machine,
    'receiver',
    'init',
    '--url',
    'https://backup.example.net:8440',
    '--json',
  );
  t.like(parse(init.stdout).at(-1), {
    event: 'result',
    directory: join(machine.stateDirectory, 'receiver'),
    listen: '0.0.0.0:8440',
    url: 'https://backup.example.net:8440',
  });
  const { code, stdout } = await runHere(machine, 'receiver', 'invite', 'web1', '--json');
  t.is(code, EXIT_OK);
  const invite = parse(stdout).at(-1) ?? { event: '' };
  t.like(invite, { event: 'result', agent: 'web1', url: 'https://backup.example.net:8440', replaces: false });
  t.regex(String(invite.code), /^[0-9A-Z]{4}(-[0-9A-Z]{4}){13}$/);
  t.true(Date.parse(String(invite.expiresAt)) > Date.now());
});

test('what is offered and what is scheduled, for programs', async (t) => {
  const machine = await makeMachine(t);
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, 'x');
  const result = async (...args: string[]): Promise<Event | undefined> => {
    const { code, stdout } = await runHere(machine, ...args, '--json');
    t.is(code, EXIT_OK, stdout);
    return parse(stdout).at(-1);
  };
  const options = [
    '--hook',
    '/hooks/db',
    '--freeze',
    'none',
    '--wait-quiet',
    '2',
    '--block-size',
    '4K',
    '--provider',
    'tap',
  ];
  const added = await result('agent', 'add', image, '--name', 'disk', ...options);
  t.like(added, {
    event: 'result',
    offer: {
      ...{
        name: 'disk',
        path: image,
        provider: 'tap',
        blockSize: 4096,
        fuzzy: false,
      },
      ...{ hooks: ['/hooks/db'], freeze: 'none', quiet: { quietMs: 2000, deadlineMs: 60_000 } },
    },
  });
  t.false(Object.hasOwn(added?.offer as object, 'compressionLevel'), 'it is left to [defaults]');
  t.like(await result('agent', 'list'), { offers: [added?.offer as object], problems: [] });

  await result('receiver', 'init');
  t.like(await result('receiver', 'dial', 'web1', '[::1]:8441'), {
    agent: 'web1',
    address: '[::1]:8441',
    isServed: false,
  });
  t.like(await result('receiver', 'dial', 'web1', 'none'), { agent: 'web1', address: null });
  const set = await result(
    'receiver',
    'schedule',
    'set',
    '--at',
    '14:30,02:00',
    '--parallel',
    '3',
    '--agents',
    'a,b',
  );
  t.like(set?.schedule, {
    ...{ name: 'default', at: '14:30,02:00', retries: 2 },
    parallel: 3,
    waitMs: 30_000,
    agents: ['a', 'b'],
    groups: null,
  });
  const shown = await result('receiver', 'schedule', 'show');
  const [schedule] = (shown?.schedules ?? []) as { nextAt: string }[];
  t.like(schedule, { ...(set?.schedule as object), lastRound: null });
  t.true(Date.parse(schedule?.nextAt ?? '') > Date.now());
  t.like(await result('receiver', 'schedule', 'clear'), { removed: ['default'] });
  const members = ['web1/data', 'web2/log'];
  for (const name of ['web1', 'web2']) await enrolled(join(machine.stateDirectory, 'receiver'), name);
  const made = await result('receiver', 'group', 'set', 'db', ...members, '--missing', 'leave-out');
  t.like(made?.group, { name: 'db', missing: 'leave-out', members: { 1: { agent: 'web2', device: 'log' } } });
  const view = {
    ...{ name: 'db', missing: 'leave-out', running: null, cutOffAt: null, lastRun: null, lastPoint: null },
    members: [
      { agent: 'web1', device: 'data', state: 'unknown', isOffered: null, canGroup: null },
      { agent: 'web2', device: 'log', state: 'unknown', isOffered: null, canGroup: null },
    ],
  };
  const { event: _, ...shownGroup } = (await result('receiver', 'group', 'show', 'db')) ?? {};
  t.deepEqual(shownGroup, { group: view, isServed: false });
  t.deepEqual((await result('receiver', 'group', 'list'))?.groups, [view]);
  const often = await result('receiver', 'schedule', 'set', '--every', '6h', '--groups', 'db');
  t.like(often?.schedule, { agents: null, groups: ['db'] });
  t.like((await result('receiver', 'schedule', 'show'))?.schedules, [often?.schedule as object]);
  t.like(await result('receiver', 'schedule', 'clear'), { removed: ['default'] });
  t.like(await result('receiver', 'group', 'remove', 'db'), { removed: 'db' });
  t.deepEqual((await result('receiver', 'group', 'list'))?.groups, []);
});
