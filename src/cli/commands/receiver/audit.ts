/** `stillpoint receiver audit`: who did what to the receiver and its points, and whether the log is whole. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { parsePeriod } from '../../../domain/base/quantities.js';
import type { ChainEnd, ReadEntry } from '../../../receiver/audit/entry.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { EXIT_DAMAGED, EXIT_OK } from '../../output/exit-codes.js';
import { formatBytes, formatCount, formatInstant } from '../../output/format.js';

const SINCE_DEFAULT = '7d';

interface AuditChoice {
  readonly store?: string;
  readonly since?: string;
  readonly agent?: string;
  readonly verify?: boolean;
  readonly expect?: ChainEnd;
}

type DirectoryOf = (context: CommandContext, dir: string | undefined) => Promise<string>;

export function addReceiverAudit(receiver: Command, run: Run, directoryOf: DirectoryOf): void {
  receiver
    .command('audit')
    .description('show the audit log: sessions, restores, commands, agents that came and went')
    .addOption(
      new Option(
        '--store <dir>',
        'the directory of the store (default: "receiver" in the state directory)',
      ).argParser(notEmpty),
    )
    .option(
      '--since <period>',
      `entries of this time: 90m, 12h, 7d, 4w, or "all" (default: ${SINCE_DEFAULT})`,
    )
    .option('--agent <name>', 'only entries about this agent')
    .option('--verify', 'check that no entry was changed or removed, instead of showing them')
    .addOption(
      new Option(
        '--expect <entry:digest>',
        'with --verify: this entry must have this digest, as --verify printed them earlier',
      ).argParser(parseAnchor),
    )
    .action((options: AuditChoice) =>
      run(async (context) => {
        const dir = await directoryOf(context, options.store);
        return options.verify === true ? verify(context, dir, options) : show(context, dir, options);
      }),
    );
}

function parseAnchor(text: string): ChainEnd {
  const match = /^(\d{1,15}):([0-9a-f]{8,64})$/.exec(text);
  if (match === null) throw new InvalidArgumentError('It is not ENTRY:DIGEST, such as 120:3fb1c09d.');
  return { sequence: Number(match[1]), chain: match[2] ?? '' };
}

async function show({ output }: CommandContext, dir: string, options: AuditChoice): Promise<number> {
  if (options.expect !== undefined) {
    throw new StillpointError('usage', { thing: '--expect', reason: 'it goes with --verify' });
  }
  const { since = SINCE_DEFAULT, agent } = options;
  const sinceMs = since === 'all' ? undefined : Date.now() - parsePeriod('period', since, 1);
  const { readAudit } = await import('../../../receiver/audit/read.js');
  let count = 0;
  for await (const entry of readAudit(dir, { sinceMs, agent })) {
    count += 1;
    output.part('entry', entry, [describe(entry)]);
  }
  const nothing = since === 'all' ? 'There are no entries.' : `There are no entries of the last ${since}.`;
  output.result({ entries: count }, count === 0 ? [nothing] : []);
  return EXIT_OK;
}

function describe(entry: ReadEntry): string {
  const { n, at, who, what, result, agent, device, point, session, bytes, count, address, detail, of } =
    entry;
  const parts = [
    agent ?? null,
    device ?? null,
    point === undefined ? null : `point ${point}`,
    session === undefined ? null : `session ${session.slice(0, 8)}`,
    bytes === undefined ? null : formatBytes(bytes),
    count === undefined ? null : `${count}`,
    address === undefined ? null : `from ${address}`,
    detail ?? null,
    of === undefined ? null : `see ${of}`,
  ].filter((part) => part !== null);
  const outcome = result === 'done' ? '' : ` ${result}`;
  return `${String(n).padStart(6)}  ${formatInstant(at)}  ${who.padEnd(9)}  ${what}${outcome}${parts.length === 0 ? '' : `: ${parts.join(', ')}`}`;
}

async function verify({ output }: CommandContext, dir: string, { expect }: AuditChoice): Promise<number> {
  const { verifyAudit } = await import('../../../receiver/audit/read.js');
  const { entries, first, last, faults, tornBytes } = await verifyAudit(dir, expect);
  for (const fault of faults) output.warn(`audit log: ${fault}`);
  if (tornBytes > 0)
    output.note(`${tornBytes} bytes at its end are of a write that has not ended, or broke off`);
  const value = { entries, first, last: last.sequence, digest: last.chain, faults, tornBytes };
  if (faults.length > 0) {
    output.result(value, [`${formatCount(faults.length, 'fault')} in a log with ${entries} entries`]);
    return EXIT_DAMAGED;
  }
  output.result(value, [
    entries === 0 ? 'There are no entries.' : `Entries ${first} to ${last.sequence} are as they were written`,
    `  note elsewhere what shows a removal of the newest ones:  --expect ${last.sequence}:${last.chain.slice(0, 16)}`,
  ]);
  return EXIT_OK;
}
