/** `stillpoint verify [POINT|DEVICE]`: makes the receiver re-read and re-digest what it holds. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import { StillpointError } from '../../domain/base/errors.js';
import { parsePeriod } from '../../domain/base/quantities.js';
import type { Point } from '../../domain/point/point.js';
import { parseDeviceRef } from '../../domain/point/point-ref.js';
import type { VerifyEvent, VerifyFinding, VerifySummary } from '../../domain/session/messages.js';
import { parseRateLimit } from '../../domain/session/rate-limit.js';
import type { PointPort } from '../../protocol/port/point.js';
import type { ScrubWish } from '../../receiver/control/messages.js';
import type { CommandContext, Run } from '../common/context.js';
import {
  agentOption,
  type ReceiverChoice,
  storeDirectory,
  storeOption,
  withReceiver,
} from '../common/open-receiver.js';
import { findPoint } from '../common/point-argument.js';
import { EXIT_DAMAGED, EXIT_OK } from '../output/exit-codes.js';
import { formatBytes, formatCount } from '../output/format.js';
import { actAsOwner } from '../service/act-as-owner.js';

interface VerifyChoice extends Omit<ReceiverChoice, 'limitRate'> {
  /** In ms. */
  readonly olderThan?: number;
  readonly percent?: number;
  /** As it was written. */
  readonly limitRate?: string;
  readonly status?: boolean;
}

/** What the argument names. */
type Scope = { readonly point: Point } | { readonly agent?: string; readonly device: string } | null;

export function addVerify(program: Command, run: Run): void {
  program
    .command('verify')
    .description('read and digest again what the receiver holds; exit code 4 if something is damaged')
    .argument(
      '[what]',
      'a point (DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id) or a device (default: all points)',
    )
    .addOption(storeOption())
    .addOption(agentOption())
    .addOption(
      new Option(
        '--older-than <period>',
        'with --store DIR: only what was not read back for so long: 30d, 12h; the longest first',
      ).argParser((text) => parsePeriod('period', text, 0)),
    )
    .addOption(
      new Option(
        '--percent <number>',
        'with --store DIR: only this part, what was not read back the longest; 10 each day cover all in 10 days',
      ).argParser(percentOf),
    )
    .addOption(
      new Option(
        '--limit-rate <rate>',
        'with --store DIR: most bytes a second that are read: 50M; by local time: 08:00-18:00=10M,100M',
      ).argParser((text) => {
        parseRateLimit(text);
        return text;
      }),
    )
    .option(
      '--status',
      'with --store DIR: how much was read back when, and what damage is known; reads nothing',
    )
    .action((what: string | undefined, options: VerifyChoice) =>
      run((context) => verify(context, what, options)),
    );
}

function percentOf(text: string): number {
  const percent = /^\d{1,3}(\.\d{1,6})?%?$/.test(text) ? Number(text.replace('%', '')) : Number.NaN;
  if (percent > 0 && percent <= 100) return percent;
  throw new InvalidArgumentError('It is not a number above 0 and up to 100.');
}

async function verify(
  context: CommandContext,
  text: string | undefined,
  { olderThan, percent, limitRate, status = false, ...choice }: VerifyChoice,
): Promise<number> {
  const directory = storeDirectory(choice.store);
  const wish: ScrubWish = {
    ...(olderThan === undefined ? {} : { olderThanMs: olderThan }),
    ...(percent === undefined ? {} : { percent }),
    ...(limitRate === undefined ? {} : { rate: limitRate }),
  };
  const isScrub = Object.keys(wish).length > 0;
  if (directory === undefined) {
    if (isScrub || status) throw needsDirectory();
    return throughPort(context, text, choice);
  }
  if (!isScrub && !status && (text !== undefined || choice.agent !== undefined))
    return throughPort(context, text, choice);
  const { placeToRead } = await import('../common/store-place.js');
  await placeToRead(context.stateDirectoryIfAny, directory);
  await actAsOwner(context, directory);
  const { isServed, scrubEvents, showScrubStatus } = await import('./scrub.js');
  if (status) return showScrubStatus(context, directory);
  // Beside a receiver, a reader of everything would keep it from removing packs.
  if (!isScrub && !(await isServed(context, directory))) return throughPort(context, text, choice);
  const scope =
    text === undefined ? null : await withReceiver(context, choice, (port) => scopeOf(port, text));
  const of = {
    ...(choice.agent === undefined ? {} : { agent: choice.agent }),
    ...(scope === null ? {} : 'point' in scope ? { pointId: scope.point.id } : scope),
  };
  const whole = Object.keys(of).length === 0 ? wish : { ...wish, of };
  return report(context, scrubEvents(context, directory, whole));
}

/** As an agent may: what its points need. With a directory, everything, without a receiver. */
async function throughPort(
  context: CommandContext,
  text: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const asked = text === undefined || text.includes('@') ? undefined : agentIn(text);
  const narrowed = asked === undefined ? choice : { ...choice, agent: asked };
  return withReceiver(context, narrowed, async (receiver) => {
    const scope = text === undefined ? null : await scopeOf(receiver, text);
    const pointId = scope !== null && 'point' in scope ? scope.point.id : undefined;
    const device = scope !== null && 'device' in scope ? scope.device : undefined;
    const events = device === undefined ? receiver.verify(pointId) : receiver.verify(undefined, device);
    return report(context, events);
  });
}

function agentIn(text: string): string | undefined {
  return text.includes('/') ? parseDeviceRef(text).agent : undefined;
}

/** A device's name may look like the id of a point: the device counts. */
async function scopeOf(
  receiver: Pick<PointPort, 'info' | 'points' | 'agents'>,
  text: string,
): Promise<Exclude<Scope, null>> {
  if (!text.includes('@')) {
    const ref = parseDeviceRef(text);
    const points = await receiver.points(ref.device);
    if (points.some(({ agent }) => (ref.agent ?? agent) === agent)) return ref;
    // A group's: the error names the points of its last group point.
    const isGroup = (await receiver.points()).some(({ group }) => group?.name === ref.device);
    if (isGroup) return { point: await findPoint(receiver, `${text}@latest`) };
  }
  return { point: await findPoint(receiver, text) };
}

function needsDirectory(): StillpointError {
  return new StillpointError('usage', {
    thing: '--older-than, --percent, --limit-rate and --status',
    reason: 'they are about all that a receiver stores, which its agents do not see',
    remedy: "Use them with --store DIR on the receiver's machine.",
  });
}

async function report(context: CommandContext, events: AsyncIterable<VerifyEvent>): Promise<number> {
  const { output, signal } = context;
  const findings: VerifyFinding[] = [];
  const summary = await unlessAborted(signal, follow(context, events, findings));
  const { pointCount, blockCount, checkedBytes, findingCount } = summary;
  output.result({ pointCount, blockCount, checkedBytes, findingCount, findings }, [
    `${findingCount === 0 ? 'No damage' : formatCount(findingCount, 'damaged thing')} in ` +
      `${formatCount(pointCount, 'point')}: ${formatCount(blockCount, 'block')}, ${formatBytes(checkedBytes)} read and digested`,
  ]);
  return findingCount === 0 ? EXIT_OK : EXIT_DAMAGED;
}

async function follow(
  { output }: CommandContext,
  events: AsyncIterable<VerifyEvent>,
  findings: VerifyFinding[],
): Promise<VerifySummary> {
  const progress = output.progress('verify', 'verifying');
  try {
    for await (const event of events) {
      if (event.type === 'summary') return event;
      if (event.type === 'progress') progress.update(event);
      else {
        findings.push(event);
        output.warn(
          `${event.what}: ${event.reason}. Points that need it: ${event.points.join(', ') || 'none'}.`,
        );
      }
    }
  } finally {
    progress.end();
  }
  throw new StillpointError('connection-lost', {
    thing: 'verification',
    reason: 'the receiver ended it without a summary',
    remedy: 'Try again.',
    permanent: false,
  });
}
