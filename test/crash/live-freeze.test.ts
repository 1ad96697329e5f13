/**
 * The agent, or its freezer, is killed or stopped around a freeze that takes long, because the disk is slow:
 * the file system is thawed in time, and the next point is the device.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/domain/base/limits.js';
import { freezersOf, startWriter } from '../helpers/disks/freezable.js';
import { mount, run } from '../helpers/disks/loop-device.js';
import { SLOW_DISK_REQUIREMENTS, slowDisk } from '../helpers/live/slow-disk.js';
import { flushNodes, LIVE_REQUIREMENTS, LiveWorld } from '../helpers/live/world.js';
import { makeMachine, outcome, start } from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const ROUNDS = LONG ? 40 : 2;
const DEADLINE_MS = 1000;
/** The freezer's grace twice, what it takes to thaw from outside, and a busy machine. */
const THAWED_MS = DEADLINE_MS + 15_000;
const START_MS_MAX = 30_000;
const VICTIMS = ['agent', 'freezer'] as const;

testWith(
  [...LIVE_REQUIREMENTS, ...SLOW_DISK_REQUIREMENTS, ...programs('mkfs.ext4')],
  'agent or freezer killed or stopped around the freeze: thawed in time, and no mark is lost',
  async (t) => {
    t.timeout(40 * 60_000);
    const random = seededRandom(t);
    const machine = await makeMachine(t, 'freeze');
    const options = { sizeBytes: 16 * MiB, writeMs: 40, readMs: 2 };
    const world = await LiveWorld.on(t, machine, await slowDisk(t, `${machine.directory}/disk`, options));
    const { device } = world.disk;
    run('mkfs.ext4', '-q', '-F', '-E', 'nodiscard', device);
    const mountPoint = world.at('mnt');
    let unmount = await mount(t, device, mountPoint);
    await world.backup(t, '--freeze-deadline', '20');
    for (let round = 0; round < ROUNDS; round += 1) {
      const victim = LONG ? random.pick(VICTIMS) : (VICTIMS[round % 2] ?? 'agent');
      const signal = random.pick(['SIGKILL', 'SIGSTOP'] as const);
      run('dd', 'if=/dev/urandom', `of=${mountPoint}/file-${round % 3}`, 'bs=64K', 'count=8', 'status=none');
      const child = start(machine, [...world.backupArgs, '--freeze-deadline', String(DEADLINE_MS / 1000)]);
      const ended = outcome(child);
      const pid = child.pid ?? 0;
      for (const endMs = Date.now() + START_MS_MAX; freezersOf(pid).length === 0; await sleep(2)) {
        if (child.exitCode !== null || Date.now() > endMs) return t.fail((await ended).stderr);
      }
      await sleep(random.below(500));
      const target = victim === 'agent' ? pid : freezersOf(pid)[0];
      try {
        if (target !== undefined) process.kill(target, signal);
      } catch {
        // It had ended.
      }
      const label = `${signal} for the ${victim}, round ${round}`;
      const probe = startWriter(mountPoint, 'probe');
      const isThawed = await Promise.race([probe.done.then(() => true), sleep(THAWED_MS, false)]);
      t.true(isThawed, label);
      if (victim === 'agent' && signal === 'SIGSTOP' && child.exitCode === null) child.kill('SIGCONT');
      await ended;
      unmount();
      flushNodes(device);
      const { tracking } = await world.backupAndCompare(t, label);
      t.true(tracking.used, `${label}: ${tracking.reason}`);
      unmount = await mount(t, device, mountPoint);
    }
  },
);
