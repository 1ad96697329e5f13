/** `stillpoint diff POINT POINT`: what changed between two points, found by the receiver in their trees. */
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import { StillpointError } from '../../domain/base/errors.js';
import { rangeBytes } from '../../domain/blocks/block-ranges.js';
import type { Geometry } from '../../domain/blocks/geometry.js';
import type { Point } from '../../domain/point/point.js';
import { pointName } from '../../domain/point/point-ref.js';
import type { DiffEvent, DiffSummary } from '../../domain/session/messages.js';
import type { DiffRange } from '../../domain/tree/tree-diff.js';
import type { CommandContext, Run } from '../common/context.js';
import { agentOption, type ReceiverChoice, storeOption, withReceiver } from '../common/open-receiver.js';
import { findPoint, ownAgent } from '../common/point-argument.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { formatBytes, formatCount } from '../output/format.js';
import { leftOutLines } from '../output/left-out.js';

/** Ranges that people are shown, unless they ask for all: with the totals below them, about a screen. */
const SHOWN_MAX = 50;

interface DiffOptions extends ReceiverChoice {
  readonly all?: boolean;
}

export function addDiff(program: Command, run: Run): void {
  program
    .command('diff')
    .description(
      'list what changed between two points: byte ranges in whole blocks, then totals; reads no data',
    )
    .argument('<from>', 'DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id')
    .argument('<to>', 'the other point, of the same block size')
    .addOption(storeOption())
    .addOption(agentOption())
    .option('--all', `show all ranges, not only the first ${SHOWN_MAX}; with --json all are shown`)
    .action((from: string, to: string, options: DiffOptions) =>
      run((context) => diff(context, from, to, options)),
    );
}

async function diff(
  context: CommandContext,
  fromText: string,
  toText: string,
  options: DiffOptions,
): Promise<number> {
  const { output, signal } = context;
  const shownMax = options.all === true ? Number.POSITIVE_INFINITY : SHOWN_MAX;
  const { from, to, own, summary } = await withReceiver(context, options, async (receiver) => {
    const found = {
      from: await unlessAborted(signal, findPoint(receiver, fromText)),
      to: await unlessAborted(signal, findPoint(receiver, toText)),
    };
    const list = new RangeList(context, largerOf(found.from.geometry, found.to.geometry), shownMax);
    const events = receiver.diff(found.from.id, found.to.id);
    const summary = await unlessAborted(signal, follow(context, events, list));
    return { ...found, own: await ownAgent(receiver), summary };
  });
  const { rangeCount, blockCount, changedBytes, zeroBlockCount } = summary;
  const { blockSize } = to.geometry;
  output.result(
    { from, to, blockSize, rangeCount, blockCount, changedBytes, zeroBlockCount },
    [
      ...(rangeCount > shownMax
        ? [`and ${formatCount(rangeCount - shownMax, 'more range')}; --all shows them`]
        : []),
      describe(from, to, own, summary),
      ...[from, to].flatMap((point) =>
        leftOutLines(point).map((text) => `${pointName(point, own)}: not compared: ${text}`),
      ),
    ],
    true,
  );
  return EXIT_OK;
}

async function follow(
  { output }: CommandContext,
  events: AsyncIterable<DiffEvent>,
  list: RangeList,
): Promise<DiffSummary> {
  const progress = output.progress('diff', 'comparing');
  try {
    for await (const event of events) {
      if (event.type === 'summary') return event;
      if (event.type === 'progress') progress.update(event);
      else for (const range of event.ranges) list.show(range);
    }
  } finally {
    progress.end();
  }
  throw new StillpointError('connection-lost', {
    thing: 'diff',
    reason: 'the receiver ended it without a summary',
    remedy: 'Try again.',
    permanent: false,
  });
}

/**
 * Tells ranges as they come. The columns are as wide as the device's size needs: nothing
 * has to be known in advance.
 */
class RangeList {
  readonly #output: CommandContext['output'];
  readonly #geometry: Geometry;
  readonly #shownMax: number;
  readonly #width: number;
  #count = 0;

  constructor({ output }: CommandContext, geometry: Geometry, shownMax: number) {
    this.#output = output;
    this.#geometry = geometry;
    this.#shownMax = shownMax;
    this.#width = Math.max('OFFSET'.length, String(geometry.sizeBytes).length);
  }

  show([start, end, zeroBlocks]: DiffRange): void {
    const byteOffset = start * this.#geometry.blockSize;
    const byteLength = rangeBytes(this.#geometry, start, end);
    const lines: string[] = [];
    if (this.#count === 0) lines.push(this.#row('OFFSET', 'LENGTH', 'ZERO'));
    if (this.#count < this.#shownMax) {
      const zero = zeroBlocks === end - start ? 'all' : formatCount(zeroBlocks, 'block');
      lines.push(this.#row(String(byteOffset), String(byteLength), zeroBlocks === 0 ? '-' : zero));
    }
    this.#count += 1;
    this.#output.part('range', { byteOffset, byteLength, zeroBlocks }, lines);
  }

  #row(offset: string, length: string, zero: string): string {
    return `${offset.padStart(this.#width)}  ${length.padStart(this.#width)}  ${zero}`;
  }
}

function largerOf(a: Geometry, b: Geometry): Geometry {
  return a.sizeBytes > b.sizeBytes ? a : b;
}

function describe(from: Point, to: Point, own: string | null, summary: DiffSummary): string {
  const { rangeCount, blockCount, changedBytes, zeroBlockCount } = summary;
  const [before, now] = [from.geometry.sizeBytes, to.geometry.sizeBytes];
  const resized =
    before === now
      ? ''
      : `; the device ${now > before ? 'grew' : 'shrank'} from ${formatBytes(before)} to ${formatBytes(now)}`;
  const changed =
    rangeCount === 0
      ? 'nothing changed'
      : `${formatBytes(changedBytes)} changed, ${formatCount(blockCount, 'block')} in ${formatCount(rangeCount, 'range')}` +
        (zeroBlockCount === 0 ? '' : `, of which ${formatCount(zeroBlockCount, 'block')} became zero`);
  return `${pointName(from, own)} to ${pointName(to, own)}: ${changed}${resized}`;
}
