/** What the daemon remembers is bounded, and can always be read back. */
import test from 'ava';
import { type DeviceMemory, readMemory, writeMemory } from '../../../src/agent/daemon/state.js';
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
  await writeMemory(directory, { devices: [odd, ...configured, ...vanished, paused], pause });
  const memory = await readMemory(directory);
  t.deepEqual(memory.pause, pause);
  t.deepEqual(memory.devices.slice(0, 1 + configured.length), [paused, ...configured]);
  t.deepEqual(memory.devices[1 + configured.length], vanished[0]);
  await writeMemory(directory, {
    devices: Array.from({ length: 1000 }, (_, n) => remembered(`vm${n}`, { last: null })),
    pause: null,
  });
  t.is((await readMemory(directory)).devices.length, 4 * OFFERS_MAX);
});
