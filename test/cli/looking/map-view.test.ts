/** Which sign a cell of a point's picture gets. */
import test from 'ava';
import { markOf, type PointMap } from '../../../src/cli/commands/looking/map-view.js';
import { CellBytes, CellGrid } from '../../../src/domain/map/cells.js';

const BLOCK = 4096;

test('what was left out is not shown as zeros, nor as something that became zeros', (t) => {
  const grid = new CellGrid({ sizeBytes: 8 * BLOCK, blockSize: BLOCK }, 4);
  const figures = () => new CellBytes(grid);
  const [content, changed, zeroed, unreadable, leftOut] = [
    figures(),
    figures(),
    figures(),
    figures(),
    figures(),
  ];
  content.addBlocks(0, 2);
  leftOut.addBytes(2 * BLOCK, 3 * BLOCK);
  changed.addBlocks(2, 4);
  zeroed.addBlocks(2, 4);
  const map = { grid, content, changed, zeroed, unreadable, leftOut, lost: null } as unknown as PointMap;
  t.deepEqual(
    [0, 1, 2, 3].map((cell) => markOf(map, cell).meaning),
    ['mostly content', 'left out', 'left out', 'zeros'],
  );
  content.addBlocks(5, 6);
  t.is(markOf(map, 2).meaning, 'mostly content', 'beside content');
});
