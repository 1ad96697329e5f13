/**
 * Draws cells as rows of characters: as wide as the terminal, with the byte offset at the beginning of each
 * row, and the partitions that begin in it at its end. Other characters where the locale is not UTF-8; colors
 * only on a terminal, and not with NO_COLOR.
 */
import type { Partition } from '../../../domain/device/partition-table.js';
import type { CellGrid } from '../../../domain/map/cells.js';
import type { CommandContext } from '../../common/context.js';
import { formatBytes, formatTable } from '../../output/format.js';

const WIDTH_DEFAULT = 80;
const WIDTH_MIN = 40;
const WIDTH_MAX = 400;
const ROWS = 24;
/** Rows begin at round offsets more often. */
const COLUMNS_STEP = 16;
const PARTITIONS_WIDTH = 12;
const GAP = '  ';

export interface Mark {
  readonly utf8: string;
  readonly ascii: string;
  /** SGR parameter; none: the terminal's own color. */
  readonly color?: number;
  readonly meaning: string;
}

export class Canvas {
  readonly #context: CommandContext;
  readonly #isUtf8: boolean;
  readonly #isColored: boolean;
  readonly #partitions: readonly Partition[];
  readonly #offsetWidth: number;
  readonly #columns: number;

  constructor(context: CommandContext, sizeBytes: number, partitions: readonly Partition[]) {
    const { environment, stdout } = context;
    this.#context = context;
    this.#partitions = partitions;
    const locale = environment.LC_ALL || environment.LC_CTYPE || environment.LANG || '';
    this.#isUtf8 = /utf-?8/i.test(locale);
    this.#isColored = stdout.isTTY === true && !environment.NO_COLOR && environment.TERM !== 'dumb';
    this.#offsetWidth = Math.max('OFFSET'.length, String(sizeBytes).length);
    const width = Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, stdout.columns || WIDTH_DEFAULT));
    const room =
      width - this.#offsetWidth - GAP.length - (partitions.length === 0 ? 0 : PARTITIONS_WIDTH + GAP.length);
    this.#columns = Math.max(COLUMNS_STEP, room - (room % COLUMNS_STEP));
  }

  get cellsMax(): number {
    return this.#columns * ROWS;
  }

  draw(grid: CellGrid, markOf: (cell: number) => Mark, legend: readonly Mark[]): void {
    const { output, stdout } = this.#context;
    output.part('picture', {}, [
      `${'OFFSET'.padStart(this.#offsetWidth)}${GAP}one character: ${formatBytes(grid.cell(0).byteLength)}`,
    ]);
    for (let from = 0; from < grid.cellCount; from += this.#columns) {
      const end = Math.min(from + this.#columns, grid.cellCount);
      const marks = Array.from({ length: end - from }, (_, i) => markOf(from + i));
      const offset = String(grid.cell(from).byteOffset).padStart(this.#offsetWidth);
      const begun = this.#begun(grid, from, end);
      const padding = begun === '' ? '' : ' '.repeat(this.#columns - marks.length);
      // Colors are escape sequences, which Output would not let pass; all of the row is made here.
      stdout.write(`${offset}${GAP}${this.#row(marks)}${padding}${begun}\n`);
    }
    const shown = legend.map((mark) => `${this.#character(mark)} ${mark.meaning}`);
    output.part('legend', {}, [`${' '.repeat(this.#offsetWidth)}${GAP}${shown.join('   ')}`]);
    if (this.#partitions.length > 0) output.part('partitions', {}, ['', ...this.#table()]);
  }

  #character({ utf8, ascii }: Mark): string {
    return this.#isUtf8 ? utf8 : ascii;
  }

  #row(marks: readonly Mark[]): string {
    let row = '';
    let color: number | undefined;
    for (const mark of marks) {
      if (this.#isColored && mark.color !== color) row += `\x1b[${mark.color ?? 0}m`;
      color = mark.color;
      row += this.#character(mark);
    }
    return this.#isColored && color !== undefined ? `${row}\x1b[0m` : row;
  }

  /** Numbers of partitions that begin in these cells. */
  #begun(grid: CellGrid, from: number, end: number): string {
    const last = grid.cell(end - 1);
    const [start, stop] = [grid.cell(from).byteOffset, last.byteOffset + last.byteLength];
    const numbers = this.#partitions
      .filter(({ byteOffset }) => byteOffset >= start && byteOffset < stop)
      .map(({ number }) => String(number));
    if (numbers.length === 0) return '';
    const text = `${GAP}< ${numbers.join(',')}`;
    return text.length > PARTITIONS_WIDTH ? `${text.slice(0, PARTITIONS_WIDTH - 3)}...` : text;
  }

  #table(): string[] {
    return formatTable(
      [
        { title: 'PARTITION', align: 'right' },
        { title: 'OFFSET', align: 'right' },
        { title: 'LENGTH', align: 'right' },
        { title: 'NAME' },
      ],
      this.#partitions.map(({ number, byteOffset, byteLength, name }) => [
        ...[String(number), String(byteOffset), formatBytes(byteLength), name || '-'],
      ]),
    );
  }
}
