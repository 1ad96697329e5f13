import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import test from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../../src/native/index.js';
import { asStoreStep } from '../../../src/store/disk/errors.js';
import { StoreIndex } from '../../../src/store/index/store-index.js';
import { encodePackEntry, PACK_ENTRY_BYTES } from '../../../src/store/packs/entries.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { testWith } from '../../helpers/requirements.js';

const STORE = 'a'.repeat(32);
const DEVICE = { agent: 'alpha', device: 'disk' };
const digestOf = (n: number) => createHash('sha256').update(String(n)).digest();
const packIdOf = (n: number) => n.toString(16).padStart(32, '0');
const fail = (reason: string) => {
  throw new Error(reason);
};

function entriesOf(from: number, count: number, kind = RECORD_KIND_BLOCK): Buffer {
  const entries = Buffer.alloc(count * PACK_ENTRY_BYTES);
  for (let i = 0; i < count; i += 1) {
    const place = { offset: 2 ** 33 + i * 100, storedLength: 20, rawLength: 4096 + i, codec: 1, kind };
    encodePackEntry(entries, i * PACK_ENTRY_BYTES, { digest: digestOf(from + i), ...place });
  }
  return entries;
}

test('records are located by digest and kind, later packs win, and all is there after opening again', async (t) => {
  const path = join(await tempDir(t), 'index');
  let index = await StoreIndex.open(path, STORE, fail);
  await index.addPack(packIdOf(1), 1000, entriesOf(0, 5000), { holder: 7 });
  await index.addPack(packIdOf(2), 2000, entriesOf(4999, 2));
  const check = () => {
    t.deepEqual(index.locate(digestOf(3), RECORD_KIND_BLOCK), {
      packId: packIdOf(1),
      packNumber: 1,
      offset: 2 ** 33 + 300,
      storedLength: 20,
      rawLength: 4099,
      codec: 1,
    });
    t.is(index.locate(digestOf(3), RECORD_KIND_NODE), null);
    t.is(index.locate(digestOf(4999), RECORD_KIND_BLOCK)?.packId, packIdOf(2));
    t.is(index.locate(digestOf(6000), RECORD_KIND_BLOCK), null);
    t.true(index.isHeld(7, digestOf(4999)));
    t.false(index.isHeld(7, digestOf(5000)));
    t.false(index.isHeld(8, digestOf(4999)));
    t.deepEqual(
      [...index.packs()],
      [
        [packIdOf(1), { number: 1, sizeBytes: 1000 }],
        [packIdOf(2), { number: 2, sizeBytes: 2000 }],
      ],
    );
  };
  check();
  await index.close();
  index = await StoreIndex.open(path, STORE, fail);
  check();
  await index.addPack(packIdOf(3), 1, entriesOf(9000, 1));
  t.is(index.locate(digestOf(9000), RECORD_KIND_BLOCK)?.packNumber, 3);
  await index.clear();
  t.is(index.locate(digestOf(9000), RECORD_KIND_BLOCK), null);
  t.is(index.packs().size, 0);
  await index.close();
});

test('what was found bad is not located, and is healed by a copy', async (t) => {
  const index = await StoreIndex.open(join(await tempDir(t), 'index'), STORE, fail);
  await index.addPack(packIdOf(1), 1000, entriesOf(0, 10));
  t.false(index.hasUnhealed());
  await index.markBad(1, 2 ** 33 + 300, digestOf(3), RECORD_KIND_BLOCK);
  t.is(index.locate(digestOf(3), RECORD_KIND_BLOCK), null);
  t.true(index.isBad(1, 2 ** 33 + 300, digestOf(3)));
  t.false(index.isBad(1, 2 ** 33 + 300, digestOf(4)));
  t.true(index.hasUnhealed());
  await index.addPack(packIdOf(2), 1000, entriesOf(3, 1));
  t.is(index.locate(digestOf(3), RECORD_KIND_BLOCK)?.packNumber, 2);
  t.false(index.hasUnhealed());
  await index.markBad(1, 2 ** 33 + 300, digestOf(3), RECORD_KIND_BLOCK);
  t.is(index.locate(digestOf(3), RECORD_KIND_BLOCK)?.packNumber, 2, 'another place of it is not touched');
  await index.markLost(digestOf(77), RECORD_KIND_NODE);
  t.true(index.hasUnhealed());
  await index.close();
});

test('devices keep their numbers', async (t) => {
  const path = join(await tempDir(t), 'index');
  let index = await StoreIndex.open(path, STORE, fail);
  const keys = ['a', 'b', 'a'].map((agent) => ({ agent, device: 'disk' }));
  const numbers = await Promise.all(keys.map((key) => index.deviceNumber(key)));
  t.deepEqual(numbers, [1, 2, 1]);
  await index.close();
  index = await StoreIndex.open(path, STORE, fail);
  t.is(await index.deviceNumber({ agent: 'c', device: 'disk' }), 3);
  t.is(await index.deviceNumber({ agent: 'b', device: 'disk' }), 2);
  await index.close();
});

testWith(
  ['root'],
  'a full disk is an error that can be caught, and writing goes on when there is room',
  async (t) => {
    const mount = await tempDir(t);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mount]);
    t.teardown(() => execFileSync('umount', ['-l', mount]));
    const index = await StoreIndex.open(join(mount, 'index'), STORE, fail);
    let pack = 0;
    const add = async () => {
      await asStoreStep('index', () =>
        index.addPack(packIdOf(pack + 1), 1, entriesOf(pack * 5000, 5000), { holder: 1 }),
      );
      pack += 1;
    };
    const fill = async () => {
      for (;;) await add();
    };
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const error = await t.throwsAsync(fill());
      t.true(isStillpointError(error, 'store-full'), error?.stack);
      // LMDB was not let at the full disk: see src/store/disk/room.ts.
      t.regex(String(error?.cause), /MiB are free/);
    }
    t.true(pack > 0);
    t.false(index.hasPack(packIdOf(pack + 1)));
    t.is(index.locate(digestOf(0), RECORD_KIND_BLOCK)?.packId, packIdOf(1));
    execFileSync('mount', ['-o', 'remount,size=40m', mount]);
    await add();
    t.true(index.hasPack(packIdOf(pack)));
    t.is(index.locate(digestOf(pack * 5000 - 1), RECORD_KIND_BLOCK)?.packId, packIdOf(pack));
    await index.close();
    const again = await StoreIndex.open(join(mount, 'index'), STORE, fail);
    t.is(again.packs().size, pack);
    await again.close();
  },
);

testWith(['root'], 'an index whose last writes found no room can be closed, and opened again', async (t) => {
  const mount = await tempDir(t);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', mount]);
  t.teardown(() => execFileSync('umount', ['-l', mount]));
  const path = join(mount, 'index');
  const index = await StoreIndex.open(path, STORE, fail);
  await index.addPack(packIdOf(1), 1, entriesOf(0, 100), { holder: 1 });
  const fill = async () => {
    for (let from = 100; ; from += 5000) await index.addPack(packIdOf(from), 1, entriesOf(from, 5000));
  };
  await t.throwsAsync(fill(), { message: /MiB are free/ });
  await index.close();
  execFileSync('mount', ['-o', 'remount,size=40m', mount]);
  const again = await StoreIndex.open(path, STORE, fail);
  t.is(again.locate(digestOf(99), RECORD_KIND_BLOCK)?.packId, packIdOf(1));
  await again.close();
});

test('more records than are committed at once', async (t) => {
  const path = join(await tempDir(t), 'index');
  let index = await StoreIndex.open(path, STORE, fail);
  const count = 2 * 16_384 + 5;
  await index.addPack(packIdOf(1), 1000, entriesOf(0, count), { holder: 7 });
  await index.hold(8, Buffer.concat(Array.from({ length: count }, (_, i) => digestOf(i))));
  await index.close();
  index = await StoreIndex.open(path, STORE, fail);
  t.teardown(() => index.close());
  const missing = Array.from({ length: count }, (_, i) => i).filter(
    (i) =>
      index.locate(digestOf(i), RECORD_KIND_BLOCK)?.rawLength !== 4096 + i ||
      !index.isHeld(7, digestOf(i)) ||
      !index.isHeld(8, digestOf(i)),
  );
  t.deepEqual(missing, []);
  t.is(index.locate(digestOf(count), RECORD_KIND_BLOCK), null);
  await index.addPack(packIdOf(2), 1000, entriesOf(0, 1));
  t.is(index.packs().get(packIdOf(2))?.number, 2);
});

test('a record that is stored again while its former pack is being removed stays found', async (t) => {
  const index = await StoreIndex.open(join(await tempDir(t), 'index'), STORE, fail);
  t.teardown(() => index.close());
  const count = 5000;
  const entries = entriesOf(0, count);
  await index.addPack(packIdOf(1), 1000, entries, { holder: await index.deviceNumber(DEVICE) });
  const number = index.packs().get(packIdOf(1))?.number ?? 0;
  index.condemn([packIdOf(1)]);
  await Promise.all([
    index.removePack(packIdOf(1), number, entries),
    index.addPack(packIdOf(2), 2000, entries),
  ]);
  for (let i = 0; i < count; i += 1)
    t.is(index.locate(digestOf(i), RECORD_KIND_BLOCK)?.packId, packIdOf(2), `record ${i}`);
});

test('the removal of a pack lets others go on, and forgets all holders of its records', async (t) => {
  const index = await StoreIndex.open(join(await tempDir(t), 'index'), STORE, fail);
  t.teardown(() => index.close());
  const count = 20_000;
  const entries = entriesOf(0, count);
  const digests = Buffer.concat(Array.from({ length: count }, (_, i) => digestOf(i)));
  await index.addPack(packIdOf(1), 1000, entries, { holder: 1 });
  await index.hold(2, digests);
  await index.hold(4_000_000_000, digests.subarray(0, 32));
  // Another pack has the second record, too: its holders stay.
  await index.addPack(packIdOf(2), 1000, entriesOf(1, 1));
  const number = index.packs().get(packIdOf(1))?.number ?? 0;
  index.condemn([packIdOf(1)]);
  let turns = 0;
  const turn = setInterval(() => {
    turns += 1;
  }, 1);
  await index.removePack(packIdOf(1), number, entries);
  clearInterval(turn);
  t.true(turns > 3, `${turns} turns`);
  t.deepEqual(
    [1, 2, 4_000_000_000].map((device) => index.isHeld(device, digestOf(0))),
    [false, false, false],
  );
  t.deepEqual(
    [1, 2, 4_000_000_000].map((device) => index.isHeld(device, digestOf(1))),
    [true, true, false],
  );
  t.false(index.isHeld(2, digestOf(count - 1)));
});
