/** `stillpoint collect`: frees what nobody needs any more, now, or says what would be freed. */
import type { Command } from 'commander';
import type { CollectReport } from '../../../store/port/store.js';
import type { CommandContext, Run } from '../../common/context.js';
import { askReceiverOr, withStore } from '../../common/served.js';
import { EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatCount } from '../../output/format.js';
import { type StoreChoice, storeDirectoryOption, storeOf } from './ask.js';

interface CollectChoice extends StoreChoice {
  readonly dryRun?: boolean;
}

export function addCollect(program: Command, run: Run): void {
  program
    .command('collect')
    .description(
      'free what removed points and ended backups left; a receiver that serves does it by itself every ten minutes',
    )
    .option('--dry-run', 'only say what would be freed')
    .addOption(storeDirectoryOption())
    .action((options: CollectChoice) => run((context) => collect(context, options)));
}

async function collect(context: CommandContext, options: CollectChoice): Promise<number> {
  const { output } = context;
  const dryRun = options.dryRun === true;
  const report = await ask(context, await storeOf(context, options), dryRun);
  if (report.state === 'put-off') output.warn(`not everything was looked at: ${report.reason}`);
  if (!dryRun && report.keptPacks > 0) {
    output.note(
      `${formatCount(report.keptPacks, 'pack')} stay for now: a backup that runs relies on them, or there was no room to write anew what is needed`,
    );
  }
  output.result({ dryRun, ...report }, linesOf(report, dryRun));
  return report.state === 'put-off' ? EXIT_WARNINGS : EXIT_OK;
}

async function ask(context: CommandContext, directory: string, dryRun: boolean): Promise<CollectReport> {
  const { collectReportSchema } = await import('../../../receiver/control/messages.js');
  const asking = {
    wish: { op: 'collect', dryRun } as const,
    parse: (answer: unknown) => collectReportSchema.parse(answer),
  };
  return askReceiverOr(context, directory, asking, () =>
    withStore(context, directory, async (store) => {
      const run = () => store.collect({ force: true, dryRun });
      if (dryRun) return run();
      const { recordedIfReceiver } = await import('../../common/recorded.js');
      return recordedIfReceiver(directory, { what: 'collect' }, run, ({ freedBytes }) => ({
        bytes: Math.max(0, freedBytes),
      }));
    }),
  );
}

function linesOf(report: CollectReport, dryRun: boolean): string[] {
  const { packCount, storedBytes, deadBytes, freeableBytes, removedPacks, rewrittenPacks } = report;
  const before = `${formatBytes(storedBytes)} in ${formatCount(packCount, 'pack')}, ${formatBytes(deadBytes)} of that needed by nobody`;
  if (dryRun) return [before, `a collection would free ${formatBytes(freeableBytes)}`];
  return [
    before,
    `${formatBytes(Math.max(0, report.freedBytes))} freed: ${formatCount(removedPacks, 'pack')} removed, ${rewrittenPacks} of them written anew in part`,
  ];
}
