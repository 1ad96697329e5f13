/** What is said of a volume before it is taken, and what its machine must do. */
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import type { Probe } from '../../../../src/capture/ports.js';
import { lvmEntryOn } from '../../../../src/capture/providers/lvm/entry.js';
import { CommandError, type LvmProgram, realHost } from '../../../../src/capture/providers/lvm/host.js';
import { hideFromUdev } from '../../../../src/capture/providers/lvm/udev.js';
import {
  obstacleOf,
  readVolume,
  type Volume,
  volumeUuid,
} from '../../../../src/capture/providers/lvm/volumes.js';
import { temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { FakeLvm, type FakeLvmOptions } from '../../../helpers/fakes/lvm.js';

async function makeLvm(t: ExecutionContext, options: Partial<FakeLvmOptions> = {}): Promise<FakeLvm> {
  const directory = await temporaryDirectory(t, 'lvm');
  return FakeLvm.make({ directory, sizeBytes: 1024 * 1024, ...options });
}

const ask = (host: FakeLvm, path = host.path): Promise<Probe> =>
  lvmEntryOn(host).probe({ path, stateDirectory: null, fuzzy: false });

test('what is refused, and why', async (t) => {
  const rows: [RegExp, RegExp, (host: FakeLvm) => unknown, boolean?][] = [
    [/^lvs is not installed$/, /lvm2/, (host) => host.missing.add('lvs')],
    [
      /^its group has 100 bytes free, and a snapshot needs/,
      /Add a disk to the group vg/,
      (host) => (host.freeBytes = 100),
    ],
    [/^device mapper has suspended it/, /dmsetup resume vg-data/, (host) => (host.isSuspended = true)],
    [
      /^Snapshots of this are not supported$/,
      /lvs -a/,
      (host) => {
        host.before.lvcreate = () => {
          throw new CommandError('lvcreate', 'Snapshots of this are not supported');
        };
      },
    ],
    [/^its pool is 92 % full/, /Extend the pool/, (host) => (host.usedBlocks = 920), true],
  ];
  for (const [reason, remedy, change, isThin = false] of rows) {
    const host = await makeLvm(t, { isThin });
    t.true((await ask(host)).possible);
    await change(host);
    const probe = await ask(host);
    if (probe.possible) return t.fail(String(reason));
    t.regex(probe.refusal.reason, reason);
    t.regex(probe.refusal.remedy ?? '', remedy);
    t.false(probe.isSetUp);
  }
});

test('who wanted a snapshot to be kept hears of it when another provider takes the volume', async (t) => {
  const host = await makeLvm(t, { tags: ['stillpoint-keep'] });
  t.regex((await ask(host)).changes, /exception store/);
  t.regex((await ask(host)).cost, /also between backups/);
  host.freeBytes = 0;
  t.like(await ask(host), { possible: false, isSetUp: true });
  t.regex((await ask(await makeLvm(t))).changes, /^all of it is read.*stillpoint-keep/);
  t.regex((await ask(await makeLvm(t, { isThin: true }))).changes, /thin_delta/);
  t.regex((await ask(await makeLvm(t, { isThin: true, tags: ['stillpoint-drop'] }))).changes, /^all of it/);
});

test('kinds of volumes that have no snapshot', async (t) => {
  const host = await makeLvm(t);
  const uuid = volumeUuid((await host.mapping(host.path))?.uuid ?? '');
  if (uuid === null) return t.fail();
  const state = await readVolume(host, uuid);
  t.is(obstacleOf(state), null);
  const rows: [RegExp, Partial<Volume>][] = [
    [/a part of another volume, or a pool/, { roles: ['private', 'thin', 'pool', 'data'] }],
    [/a part of another volume, or a pool/, { isPool: true }],
    [/a snapshot itself/, { roles: ['public', 'snapshot', 'thicksnapshot'] }],
    [/is being merged into it/, { isMerging: true }],
    [/not active on this host/, { isActive: false }],
    [/does not show its pool p/, { thin: { pool: 'p', id: 1 } }],
  ];
  for (const [reason, change] of rows)
    t.regex(obstacleOf({ ...state, volume: { ...state.volume, ...change } })?.reason ?? '', reason);
  t.is(volumeUuid(`LVM-${'a'.repeat(64)}-real`), null);
  t.is(volumeUuid('CRYPT-LUKS2-0'), null);
  host.before.lvs = () => {
    throw new CommandError('lvs', 'x');
  };
  await t.throwsAsync(readVolume(host, uuid), { instanceOf: CommandError });
});

test("udev is told once that snapshots of ours are nobody's disks", async (t) => {
  const directory = await temporaryDirectory(t, 'udev');
  const commands: string[] = [];
  const run = async (program: LvmProgram): Promise<string> => {
    commands.push(program);
    return '';
  };
  const host = { run, udevRules: join(directory, 'udev') } as unknown as FakeLvm;
  await hideFromUdev(host);
  await t.throwsAsync(stat(join(directory, 'udev')));
  await mkdir(join(directory, 'udev'));
  await hideFromUdev(host);
  await hideFromUdev(host);
  t.deepEqual(commands, ['udevadm']);
  const odd = { run, udevRules: '/dev/null' } as unknown as FakeLvm;
  await t.throwsAsync(hideFromUdev(odd), { instanceOf: CommandError, message: /to leave snapshots alone/ });
  const rule = await readFile(join(directory, 'udev/rules.d/09-stillpoint-lvm.rules'), 'utf8');
  t.regex(
    rule,
    /ATTR\{dm\/name\}=="\*-stillpoint--\?{32}\*", \\\n +ENV\{DM_UDEV_DISABLE_DISK_RULES_FLAG\}="1"/,
  );
});

test('a command that fails, is missing, late, cancelled or talks too much', async (t) => {
  const run = (program: string, args: string[], options = {}) =>
    realHost.run(program as LvmProgram, args, options);
  const failed = (message: RegExp) => ({ instanceOf: CommandError, message });
  t.is(await run('sh', ['-c', 'echo "$LC_ALL"; cat']), 'C\n');
  const words = 'echo "  WARNING: x." >&2; echo "  It is so." >&2; exit 5';
  await t.throwsAsync(run('sh', ['-c', words]), failed(/^sh says: It is so$/));
  await t.throwsAsync(run('sh', ['-c', 'exit 5']), failed(/^sh says: exit code 5$/));
  const missing = await t.throwsAsync(run('stillpoint-no-such-program', []), failed(/is not installed$/));
  t.true(missing instanceof CommandError && missing.isMissing);
  await t.throwsAsync(run('sleep', ['60'], { deadlineMs: 50 }), failed(/did not answer within 0.05 s/));
  await t.throwsAsync(run('sleep', ['60'], { signal: AbortSignal.timeout(50) }), failed(/cancelled/));
  await t.throwsAsync(run('sleep', ['60'], { signal: AbortSignal.abort() }), failed(/cancelled/));
  await t.throwsAsync(run('yes', []), failed(/printed more than is taken/));
});
