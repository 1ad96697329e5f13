/**
 * Scattered changes of 4 to 8 KiB, sent as patches: the wire carries little more than they are,
 * and every point restores.
 */
import { randomBytes } from 'node:crypto';
import { cp, open } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { difference } from '../../helpers/disks/images.js';
import { enroll, startReceiver } from '../../helpers/machines/receiver.js';
import { backup, EXIT_OK, makeMachine, restore, runExpecting } from '../../helpers/machines/stillpoint.js';
import { testWith } from '../../helpers/requirements.js';
import { type Random, seededRandom } from '../../helpers/seed.js';

const BLOCK = 64 * KiB;
const SIZE = 12 * MiB + 12_345;
const CHANGES = 60;

async function randomImage(path: string): Promise<void> {
  const file = await open(path, 'w');
  await file.write(randomBytes(SIZE));
  await file.close();
}

/** @returns how many pages of 4 KiB it touched. */
async function scatter(path: string, random: Random): Promise<number> {
  const file = await open(path, 'r+');
  const pages = new Set<number>();
  for (const block of random.sample([...Array(Math.floor(SIZE / BLOCK)).keys()], CHANGES - 1)) {
    const bytes = randomBytes(4 * KiB + random.below(4 * KiB));
    const byteOffset = block * BLOCK + random.below(BLOCK - bytes.length);
    await file.write(bytes, 0, bytes.length, byteOffset);
    for (let at = byteOffset; at < byteOffset + bytes.length; at += 4 * KiB)
      pages.add(Math.floor(at / (4 * KiB)));
    pages.add(Math.floor((byteOffset + bytes.length - 1) / (4 * KiB)));
  }
  await file.write(randomBytes(100), 0, 100, SIZE - 100);
  await file.close();
  return pages.size + 1;
}

for (const transport of ['a directory store', 'a receiver over TLS']) {
  testWith([], `${transport}: scattered changes as patches`, async (t) => {
    const random = seededRandom(t);
    const machine = await makeMachine(t, 'patches');
    const at = (name: string) => join(machine.directory, name);
    let store: string | null = at('store');
    if (transport !== 'a directory store') {
      await enroll(t, await startReceiver(t), machine, 'host');
      store = null;
    }
    await randomImage(at('source'));
    await backup(t, machine, store, at('source'), '--name', 'image');
    for (const round of [1, 2]) {
      const pages = await scatter(at('source'), random);
      await cp(at('source'), at(`state-${round}`));
      const point = await backup(t, machine, store, at('source'), '--name', 'image', '--patch', 'always');
      const { changedBytes, wireBytes } = point.statistics;
      t.true(changedBytes > (CHANGES - 1) * BLOCK, `${changedBytes}`);
      // Random pages do not compress; 56 bytes of entry, 32 of `have`, 12 and 2 of patch, some 150 of
      // question and answer for a block.
      t.true(
        wireBytes < pages * 4 * KiB + CHANGES * 270 + 8 * KiB,
        `${wireBytes} wire bytes for ${pages} pages`,
      );
      t.true(wireBytes > (CHANGES - 1) * 4 * KiB, `${wireBytes} wire bytes`);
    }
    for (const round of [1, 2]) {
      await restore(t, machine, store, `image@${round + 1}`, at(`restored-${round}`));
      t.is(difference(at(`restored-${round}`), at(`state-${round}`)), null);
    }
    const to = store === null ? [] : ['--store', store];
    await runExpecting(t, machine, EXIT_OK, 'verify', ...to);
  });
}
