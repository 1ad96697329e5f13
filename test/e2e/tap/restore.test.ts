/**
 * A restore to what a tap serves: never past a tap that runs; and after one past a tap that does not,
 * its map is not believed.
 */
import { copyFile } from 'node:fs/promises';
import test from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { difference } from '../../helpers/disks/images.js';
import { restore, run } from '../../helpers/machines/stillpoint.js';
import { DATA_BYTES, tappedData } from '../../helpers/worlds/tapped.js';

test('refused while the tap runs; after a kill of the tap, the next backup reads everything', async (t) => {
  const tap = await tappedData(t);
  await tap.backup();
  await copyFile(tap.source, tap.at('first'));
  await tap.stop();
  await makeStampedImage(tap.source, {
    ...{ sizeBytes: DATA_BYTES, blockSize: 64 * KiB, seed: 4 },
    blockIndexes: [5, 77],
  });
  await tap.start();
  await tap.backup();

  const args = ['restore', 'disk@1', tap.source, '--store', tap.at('store'), '--overwrite'];
  const { code, stderr } = await run(tap.machine, ...args, '--allow-in-use');
  t.is(code, 1);
  t.regex(stderr, /the tap disk serves .*disk\.img, .*stop it first: stillpoint tap stop disk/);

  await tap.kill();
  await restore(t, tap.machine, tap.at('store'), 'disk@1', tap.source, '--overwrite');
  t.is(difference(tap.source, tap.at('first')), null);
  await tap.start();
  const { tracking } = await tap.checkPoint();
  t.false(tracking.used, tracking.reason);
});
