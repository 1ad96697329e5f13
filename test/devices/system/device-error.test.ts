import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { onDevice } from '../../../src/devices/system/device-error.js';
import { native } from '../../../src/native/index.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';

test('an image that is cut while it is read is told as such, not as a bad sector', async (t) => {
  const path = join(await temporaryDirectory(t, 'cut'), 'image');
  await writeFile(path, Buffer.alloc(100_000, 1));
  const device = await native.openDevice(path);
  t.teardown(() => device.close());
  await truncate(path, 50_000);
  const read = () => device.read(40_000, 20_000);
  await t.throwsAsync(read(), { code: 'ETRUNCATED' });
  await refused(t, onDevice(path, read), 'device-changed', /cut short or removed while it was read/);
  const writing = onDevice(path, read, { place: 'target' });
  await refused(t, writing, 'device-changed', /while it was written/);
});
