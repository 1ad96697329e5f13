import { join } from 'node:path';
import test from 'ava';
import { GiB } from '../../../src/domain/base/limits.js';
import {
  checkJournalDirectory,
  checkPreserveDirectory,
  defaultJournalMax,
  defaultPreserveMax,
  JOURNAL_BYTES_MIN,
} from '../../../src/tap/source/preserve.js';
import { readSource } from '../../../src/tap/source/source.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';
import { makeTapPlace } from '../../helpers/worlds/taps.js';

test('the preserve area of a small device has 1 GiB, or half of what is free', async (t) => {
  const { directory, image } = await makeTapPlace(t);
  const bytes = await defaultPreserveMax(await readSource(image), join(directory, 'not', 'there'));
  t.true(bytes > 0 && bytes <= GiB);
  const journal = await defaultJournalMax(join(directory, 'not', 'there'));
  t.true(journal >= JOURNAL_BYTES_MIN && journal <= 4 * GiB);
});

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'it must not lie on what the tap serves, however many layers are between',
  async (t) => {
    const { directory, image } = await makeTapPlace(t);
    const mountPoint = join(directory, 'mnt');
    const device = attachLoop(t, image);
    run('mkfs.ext4', '-q', device);
    await mount(t, device, mountPoint);
    const inside = join(mountPoint, 'not-there-yet', 'preserve');
    for (const source of [await readSource(device), await readSource(image)]) {
      await refused(t, checkPreserveDirectory(inside, source, null), 'config', /itself serves/);
      await refused(
        t,
        checkJournalDirectory(inside, source, null),
        'config',
        /^journal directory .* --journal-dir/,
      );
      await t.notThrowsAsync(checkPreserveDirectory(directory, source, null));
    }
    // As where the tap of something else is attached as that device.
    const other = { kind: 'image', path: '/elsewhere', key: 'image 0/0', number: null } as const;
    await t.notThrowsAsync(checkPreserveDirectory(inside, other, null));
    await refused(t, checkPreserveDirectory(inside, other, device), 'config', /itself serves/);
  },
);
