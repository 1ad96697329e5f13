import test from 'ava';
import { growthOf, poolCarries, poolTrouble, thickRoom } from '../../../src/domain/volume/room.js';
import { policyOf } from '../../../src/domain/volume/snapshot-tags.js';
import { seededRandom } from '../../helpers/seed.js';

const EXTENT = 4 * 1024 * 1024;
const GIB = 1024 * 1024 * 1024;
const policy = policyOf([]);

test('a snapshot starts with a tenth of its volume, or with what the group has, down to a fiftieth', (t) => {
  const group = (freeBytes: number) => ({ freeBytes, extentBytes: EXTENT });
  t.like(thickRoom(100 * GIB, group(200 * GIB), policy), { startBytes: 10 * GIB, maxBytes: 50 * GIB });
  t.like(thickRoom(100 * GIB, group(5 * GIB), policy), { startBytes: 4.5 * GIB, reserveBytes: 0.5 * GIB });
  t.regex(String(thickRoom(100 * GIB, group(2 * GIB), policy)), /^its group has 2147483648 bytes free/);
  t.regex(String(thickRoom(100 * GIB, group(0), policy)), /has 0 bytes free/);
  t.like(thickRoom(100 * GIB, group(2 * GIB), policyOf(['stillpoint-start=1'])), { startBytes: GIB });
});

test('however it grows, it never takes the reserve, nor more than its policy allows', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 200; round += 1) {
    const sizeBytes = (1 + random.below(1000)) * EXTENT;
    let freeBytes = random.below(500) * EXTENT;
    const room = thickRoom(sizeBytes, { freeBytes, extentBytes: EXTENT }, policy);
    if (typeof room === 'string') continue;
    let store = room.startBytes;
    freeBytes -= store;
    for (let step = 0; step < 30; step += 1) {
      const bytes = growthOf(
        { sizeBytes: store, usedBytes: store },
        { freeBytes, extentBytes: EXTENT },
        room,
      );
      t.true(bytes >= 0 && bytes % EXTENT === 0);
      store += bytes;
      freeBytes -= bytes;
    }
    t.true(freeBytes >= room.reserveBytes, `${freeBytes} of ${room.reserveBytes}`);
    t.true(store <= Math.max(room.maxBytes, room.startBytes));
    t.is(
      growthOf(
        { sizeBytes: store, usedBytes: store / 2 },
        { freeBytes: GIB * 99, extentBytes: EXTENT },
        room,
      ),
      0,
    );
  }
});

test('a pool that is nearly full carries no snapshot, and one held is given up a little later', (t) => {
  const use = (percent: number, metadataPercent: number) => ({
    ...{ dataBytes: 1000, usedDataBytes: percent * 10, metadataPercent },
  });
  t.is(poolTrouble(use(89, 79), 'taken'), null);
  t.regex(
    poolTrouble(use(90, 0), 'taken') ?? '',
    /^its pool is 90 % full, and from 90 % on no snapshot is taken$/,
  );
  t.regex(poolTrouble(use(0, 80), 'taken') ?? '', /^the metadata of its pool is 80 % full/);
  t.is(poolTrouble(use(94, 89), 'held'), null);
  t.regex(poolTrouble(use(95, 0), 'held') ?? '', /is held$/);
  t.true(poolCarries(use(40, 0), 500));
  t.false(poolCarries(use(40, 0), 501));
});
