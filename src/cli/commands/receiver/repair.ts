/** `stillpoint receiver repair [DIR]`: brings back what damaged or lost small files took away. */
import type { Command } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { LOCAL_AGENT } from '../../../domain/base/names.js';
import { parsePointRef } from '../../../domain/point/point-ref.js';
import type { LostPlace } from '../../../store/repair-store.js';
import type { CommandContext, Run } from '../../common/context.js';
import { EXIT_DAMAGED, EXIT_OK } from '../../output/exit-codes.js';
import { formatCount } from '../../output/format.js';

interface RepairChoice {
  readonly dryRun?: boolean;
  readonly rebuildIndex?: boolean;
  readonly newIdentity?: boolean;
  readonly forgetLost?: LostPlace;
}

type DirectoryOf = (context: CommandContext, dir: string | undefined) => Promise<string>;

export function addRepair(
  receiver: Command,
  run: Run,
  directoryHelp: string,
  directoryOf: DirectoryOf,
): void {
  receiver
    .command('repair')
    .description(
      'bring back points and settings whose small files are damaged or lost, from their copies; removes nothing else than --forget-lost says',
    )
    .argument('[dir]', directoryHelp)
    .option('--dry-run', 'only say what would be done')
    .option('--rebuild-index', 'make the index again, even if it looks whole; takes long for a large store')
    .option(
      '--forget-lost <point>',
      'AGENT/DEVICE@SEQUENCE: give up a point whose manifest and copy are lost; until then nothing is collected',
      lostPlace,
    )
    .option(
      '--new-identity',
      'if the authority is lost, make another one; every agent must then be invited and enrolled again',
    )
    .action((dir: string | undefined, options: RepairChoice) =>
      run(async (context) => repair(context, await directoryOf(context, dir), options)),
    );
}

function lostPlace(text: string): LostPlace {
  const ref = parsePointRef(text);
  if (ref.by === 'sequence') return { agent: LOCAL_AGENT, ...ref };
  throw new StillpointError('bad-point-name', {
    thing: `point ${JSON.stringify(text.slice(0, 200))}`,
    reason: 'a point that is lost is known by its sequence only',
    remedy: 'Name it like web1/data@3; "stillpoint verify" lists the files that are lost.',
  });
}

async function repair(context: CommandContext, directory: string, options: RepairChoice): Promise<number> {
  const { output } = context;
  const { dryRun = false, rebuildIndex = false, newIdentity = false, forgetLost = null } = options;
  const { repairStore } = await import('../../../store/repair-store.js');
  const { repairIdentity } = await import('../../../receiver/access/identity-repair.js');
  const log = (message: string) => output.note(`${directory}: ${message}`);
  const store = await repairStore(directory, { dryRun, rebuildIndex, forgetLost, log });
  const identity = await repairIdentity(directory, { dryRun, newIdentity, now: new Date() });
  await enter(directory, dryRun ? 0 : store.mended.length + identity.mended.length);
  const mended = [...store.mended, ...identity.mended];
  const lost = [...store.lost, ...identity.lost];
  for (const { what, reason } of lost) output.warn(`${what}: ${reason}.`);
  const done = dryRun ? 'would be mended' : 'mended';
  const lines = [
    ...mended.map(({ what, reason }) => `${what}: ${reason}`),
    `${formatCount(mended.length, 'thing')} ${done}, ${lost.length === 0 ? 'nothing is lost' : `${formatCount(lost.length, 'thing')} can't be brought back`}`,
  ];
  output.result({ directory, dryRun, mended, lost }, lines);
  return lost.length === 0 ? EXIT_OK : EXIT_DAMAGED;
}

/** Afterwards: what is mended may be what the audit log needs. */
async function enter(directory: string, count: number): Promise<void> {
  const { hasReceiver } = await import('../../common/recorded.js');
  if (count === 0 || !hasReceiver(directory)) return;
  const { AuditLog } = await import('../../../receiver/audit/log.js');
  const log = new AuditLog({ dir: directory });
  log.note({ who: 'operator', what: 'repair', result: 'done', count });
  await log.close();
}
