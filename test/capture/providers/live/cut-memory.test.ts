/** What a cut may read is bounded by its memory; one that had too little gets more at the next try. */
import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freeze } from '../../../../src/capture/quiesce/freeze.js';
import { KiB, LIVE_CUT_BYTES_MAX, LIVE_STAGING_BYTES, MiB } from '../../../../src/domain/base/limits.js';
import { type CutReport, native } from '../../../../src/native/index.js';
import { attachLoop, run, temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { LIVE_REQUIREMENTS, trackNow, untrackAtEnd } from '../../../helpers/live/world.js';
import { testWith } from '../../../helpers/requirements.js';

/** More than a cut gets at first. */
const WRITTEN = 60 * MiB;

testWith(LIVE_REQUIREMENTS, 'a cut that has found too much gets room for it', async (t) => {
  const image = join(await temporaryDirectory(t, 'cut-memory'), 'disk');
  await writeFile(image, '');
  await truncate(image, 2 * WRITTEN);
  const path = attachLoop(t, image);
  const place = await untrackAtEnd(t, path);
  await trackNow(place, false);
  const device = await native.openDevice(path, { direct: true });
  t.teardown(() => device.close());
  const tracker = await native.openTracker(place.directory);
  t.teardown(() => tracker.close());
  // In place of the lock on the marks: nobody else wants them here.
  const lock = await open(image);
  t.teardown(() => lock.close());
  const copy = await native.createLiveCopy(device, tracker, {
    blockSize: 64 * KiB,
    stagingMaxBytes: LIVE_STAGING_BYTES,
    cutMaxBytes: LIVE_CUT_BYTES_MAX,
  });
  t.teardown(() => copy.close());
  await copy.begin({ everything: false, sampleBlocks: [] });
  const { readBytes } = await copy.collect();
  t.is(readBytes, 0);
  const cut = async (): Promise<CutReport> => {
    await copy.prepareCut(readBytes);
    const cuts = [[...copy.descriptors(), lock.fd]];
    const held = await freeze([], { deadlineMs: 30_000, cuts, once: true });
    await held.cut();
    t.true((await held.thaw()).intact);
    return copy.report();
  };

  // As by others between the last pass and the freeze.
  run(
    'dd',
    'if=/dev/urandom',
    `of=${path}`,
    'bs=1M',
    `count=${WRITTEN / MiB}`,
    'oflag=direct',
    'status=none',
  );
  t.like(await cut(), { state: 'too-much', wantedBytes: WRITTEN });
  t.like(await cut(), { state: 'complete', wantedBytes: WRITTEN });
  await copy.accept();
  t.deepEqual(copy.changedBlocks(), [[0, WRITTEN / (64 * KiB)]]);
});
