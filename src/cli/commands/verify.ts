/** `stillpoint verify [POINT]`: makes the receiver re-read and re-digest what it holds. */
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { VerifyEvent, VerifyFinding, VerifySummary } from '../../domain/session/messages.js';
import type { CommandContext, Run } from '../common/context.js';
import { agentOption, type ReceiverChoice, storeOption, withReceiver } from '../common/open-receiver.js';
import { findPoint } from '../common/point-argument.js';
import { EXIT_DAMAGED, EXIT_OK } from '../output/exit-codes.js';
import { formatBytes, formatCount } from '../output/format.js';

export function addVerify(program: Command, run: Run): void {
  program
    .command('verify')
    .description('read and digest again what the receiver holds; exit code 4 if something is damaged')
    .argument('[point]', 'DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id (default: all points)')
    .addOption(storeOption())
    .addOption(agentOption())
    .action((point: string | undefined, options: ReceiverChoice) =>
      run((context) => verify(context, point, options)),
    );
}

async function verify(
  context: CommandContext,
  pointText: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const { output, signal } = context;
  const findings: VerifyFinding[] = [];
  const summary = await withReceiver(context, choice, async (receiver) => {
    const point = pointText === undefined ? undefined : await findPoint(receiver, pointText);
    return unlessAborted(signal, follow(context, receiver.verify(point?.id), findings));
  });
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
