/** Devices that are offered for live copies, and an agent that waits for orders. */
import { symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { keepTracking } from '../../../src/agent/orders/keep-tracking.js';
import type { DeviceSettings } from '../../../src/config/agent-config.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { findTrackPlace } from '../../../src/track/place.js';
import { readTrackState } from '../../../src/track/tracked.js';
import { attachLoop, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import { LIVE_REQUIREMENTS, untrackAtEnd } from '../../helpers/live/world.js';
import { testWith } from '../../helpers/requirements.js';

const EVERY_MS = 20;

testWith(LIVE_REQUIREMENTS, 'tracked from the start, or from when it is there; others are not', async (t) => {
  const directory = await temporaryDirectory(t, 'keep-tracking');
  const devices: string[] = [];
  const offered: DeviceSettings[] = [];
  for (const name of ['there', 'late', 'other']) {
    const image = join(directory, `${name}.img`);
    await writeFile(image, '');
    await truncate(image, MiB);
    const device = attachLoop(t, image);
    await untrackAtEnd(t, device);
    devices.push(device);
    if (name !== 'late') await symlink(device, join(directory, name));
    const provider = name === 'other' ? null : 'live';
    offered.push(deviceNamed(directory, name, { provider }));
  }
  const [there = '', late = '', other = ''] = devices;
  const stateOf = async (device: string) => (await readTrackState(await findTrackPlace(device), false)).state;
  const log: { msg: string; path: string }[] = [];
  const stop = new AbortController();
  const ended = keepTracking({
    ...{
      listDevices: async () => offered.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      signal: stop.signal,
      everyMs: EVERY_MS,
    },
    log: pino({}, { write: (line: string) => void log.push(JSON.parse(line)) }),
  });
  while ((await stateOf(there)) !== 'tracked') await sleep(EVERY_MS);
  await sleep(10 * EVERY_MS);
  t.is(await stateOf(late), 'none');
  await symlink(late, join(directory, 'late'));
  while ((await stateOf(late)) !== 'tracked') await sleep(EVERY_MS);
  stop.abort();
  await ended;
  t.deepEqual(
    log.map(({ msg, path }) => [msg, path]),
    [
      ['it is not tracked', join(directory, 'late')],
      ['writes to it are tracked from now on', join(directory, 'there')],
      ['writes to it are tracked from now on', join(directory, 'late')],
    ],
  );
  t.is(await stateOf(other), 'none');
  t.is(await stateOf(there), 'tracked', 'it stays when the agent ends');
});
