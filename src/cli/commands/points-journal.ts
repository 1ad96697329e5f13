/** `stillpoint points --journal [DEVICE]`: which seconds can be restored from journals of taps. */
import { unlessAborted } from '../../agent/common/cancel.js';
import { spansOf } from '../../domain/moment/spans.js';
import { parseDeviceRef } from '../../domain/point/point-ref.js';
import type { CommandContext } from '../common/context.js';
import { type ReceiverChoice, withReceiver } from '../common/open-receiver.js';
import { ownAgent } from '../common/point-argument.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { spanLines, spanView } from '../output/journal-spans.js';

export async function journalSpans(
  context: CommandContext,
  text: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const asked = text === undefined ? undefined : parseDeviceRef(text);
  const { spans, own } = await withReceiver(context, choice, async (receiver) => {
    const journals = await unlessAborted(context.signal, receiver.journals(asked?.device));
    const points = journals.length === 0 ? [] : await receiver.points(asked?.device);
    return { spans: spansOf(journals, points), own: await ownAgent(receiver) };
  });
  const found = spans.filter(({ journal }) => (asked?.agent ?? journal.agent) === journal.agent);
  const lines =
    found.length === 0
      ? [
          `There is no journal${text === undefined ? '' : ` of device ${text}`} from which a second can be restored.`,
        ]
      : spanLines(found, own);
  context.output.result({ spans: found.map(spanView) }, lines, true);
  return EXIT_OK;
}
