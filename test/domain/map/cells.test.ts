import test from 'ava';
import { CellBytes, CellGrid, CellHeat } from '../../../src/domain/map/cells.js';

const TiB = 2 ** 40;

test('cells are whole blocks, cover the device, and never touch what is beyond it', (t) => {
  const grid = new CellGrid({ sizeBytes: 10 * 4096 - 100, blockSize: 4096 }, 4);
  t.is(grid.cellBlocks, 3);
  t.deepEqual(
    [0, 1, 2, 3].map((i) => grid.cell(i)),
    [
      { byteOffset: 0, byteLength: 12288 },
      { byteOffset: 12288, byteLength: 12288 },
      { byteOffset: 24576, byteLength: 12288 },
      { byteOffset: 36864, byteLength: 3996 },
    ],
  );
  t.is(grid.cellCount, 4);
  const bytes = new CellBytes(grid);
  bytes.addBlocks(2, 20);
  t.deepEqual(
    [0, 1, 2, 3].map((i) => bytes.of(i)),
    [4096, 12288, 12288, 3996],
  );
  t.is(bytes.total, 4096 + 12288 * 2 + 3996);
  const some = new CellBytes(grid);
  some.addBytes(12000, 600);
  some.addBytes(40_000, 99_999);
  t.deepEqual(
    [0, 1, 2, 3].map((i) => some.of(i)),
    [288, 312, 0, 860],
  );
  const shared = new CellBytes(grid);
  shared.addSome(0, 6, 3);
  t.deepEqual([shared.of(0), shared.of(1), shared.total], [6144, 6144, 12288]);
});

test('a small device has a cell for each block, an empty one none', (t) => {
  t.is(new CellGrid({ sizeBytes: 5 * 4096, blockSize: 4096 }, 1000).cellCount, 5);
  t.is(new CellGrid({ sizeBytes: 0, blockSize: 4096 }, 1000).cellCount, 0);
});

test('16 TiB of 4 KiB blocks take as little as a small device', (t) => {
  const grid = new CellGrid({ sizeBytes: 16 * TiB, blockSize: 4096 }, 1000);
  const bytes = new CellBytes(grid);
  bytes.addBlocks(0, 2 ** 32);
  t.is(bytes.total, 16 * TiB);
  t.true(grid.cellCount <= 1000);
});

test('heat counts a cell once in each interval, however often it is touched', (t) => {
  const grid = new CellGrid({ sizeBytes: 100 * 4096, blockSize: 4096 }, 10);
  const heat = new CellHeat(grid);
  heat.nextInterval();
  heat.addBlocks(0, 1);
  heat.addBlocks(3, 4);
  heat.addBlocks(5, 15);
  heat.nextInterval();
  heat.addBlocks(9, 10);
  heat.nextInterval();
  t.deepEqual(
    [0, 1, 2].map((cell) => heat.intervalsOf(cell)),
    [2, 1, 0],
  );
  t.is(heat.intervalCount, 3);
  t.is(heat.bytes.total, 13 * 4096);
});
