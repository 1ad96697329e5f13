/** What the daemon remembers is bounded, and can always be read back. */
import { join } from 'node:path';
import test from 'ava';
import { z } from 'zod';
import { type DeviceMemory, readMemory, writeMemory } from '../../../src/agent/daemon/state.js';
import { writeStateFile } from '../../../src/config/state-file.js';
import { OFFERS_MAX } from '../../../src/domain/base/limits.js';
import { newRecord } from '../../../src/domain/order/run-plan.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const START = Date.UTC(2026, 4, 1);

function remembered(name: string, changes: Partial<DeviceMemory> = {}): DeviceMemory {
  const at = new Date(START).toISOString();
  return {
    ...{ name, path: `/srv/${name}`, pattern: null, record: newRecord(START), lastGood: null },
    last: {
      ...{ why: 'due', startedAt: at, endedAt: at, state: 'failed', point: null, warningCount: 0 },
      ...{ wireBytes: 0, reason: '"\\'.repeat(500) },
    },
    ...changes,
  };
}

test('however much there is, it can be read back, with all pauses and what is configured', async (t) => {
  const directory = await tempDir(t);
  const pause = { fromMs: START, untilMs: null };
  const configured = Array.from({ length: OFFERS_MAX / 2 }, (_, n) => remembered(`disk${n}`));
  const vanished = Array.from({ length: 1000 }, (_, n) => remembered(`vm${n}`, { pattern: '/srv/*' }));
  const paused = remembered('paused', { record: { ...newRecord(START), pause } });
  const odd = remembered('odd', { path: `/${'x'.repeat(5000)}` });
  await writeMemory(directory, { devices: [odd, ...configured, ...vanished, paused], groups: [], pause });
  const memory = await readMemory(directory);
  t.deepEqual(memory.pause, pause);
  t.deepEqual(memory.devices.slice(0, 1 + configured.length), [paused, ...configured]);
  t.deepEqual(memory.devices[1 + configured.length], vanished[0]);
  await writeMemory(directory, {
    devices: Array.from({ length: 1000 }, (_, n) => remembered(`vm${n}`, { last: null })),
    groups: [],
    pause: null,
  });
  t.is((await readMemory(directory)).devices.length, 4 * OFFERS_MAX);
});

test('a file of the former form is read, without groups', async (t) => {
  const directory = await tempDir(t);
  const devices = [remembered('data')];
  const former = z.object({ pause: z.null(), devices: z.array(z.unknown()) });
  const format = { format: 'stillpoint-daemon', version: 1, schema: former };
  await writeStateFile(join(directory, 'daemon.json'), format, { pause: null, devices });
  t.deepEqual(await readMemory(directory), { pause: null, devices, groups: [] });
  const { path: _, pattern: __, ...group } = remembered('db');
  await writeMemory(directory, { pause: null, devices, groups: [group] });
  t.deepEqual(await readMemory(directory), { pause: null, devices, groups: [group] });
});
