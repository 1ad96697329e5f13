/**
 * `stillpoint inspect DEVICE`: what it is, which programs use it, what is on it, and how it would be backed
 * up.
 */
import type { Command } from 'commander';
import type { Inspection, ProviderChoice } from '../../capture/choice/inspect.js';
import type { Filesystem } from '../../capture/quiesce/mounts.js';
import { describeHalfRestored } from '../../devices/facts/half-restored.js';
import { describeFormat } from '../../devices/facts/image-format.js';
import type { CommandContext, Run } from '../common/context.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { formatBytes } from '../output/format.js';

export function addInspect(program: Command, run: Run): void {
  program
    .command('inspect')
    .description('show what a device is, who uses it, what lies on it, and how it would be backed up')
    .argument('<device>', 'block device or image file')
    .action((device: string) => run((context) => inspect(context, device)));
}

async function inspect(
  { output, stateDirectoryIfAny: stateDirectory }: CommandContext,
  path: string,
): Promise<number> {
  const { inspectDevice } = await import('../../capture/choice/inspect.js');
  const inspection = await inspectDevice(path, stateDirectory);
  output.result({ device: path, ...inspection }, describe(path, inspection), true);
  return EXIT_OK;
}

function describe(path: string, inspection: Inspection): string[] {
  const { sizeBytes, identity, halfRestored, imageFormat, uses, filesystems, notes, providers, chosen } =
    inspection;
  const { type, logicalSectorSize, path: resolved, ...facts } = identity;
  return [
    `${path}: ${type === 'block' ? 'block device' : 'image'} of ${formatBytes(sizeBytes)} (${sizeBytes} bytes), sectors of ${logicalSectorSize} bytes`,
    ...(resolved === path ? [] : [`  path: ${resolved}`]),
    ...Object.entries(facts).map(([name, value]) => `  ${name}: ${value}`),
    ...(halfRestored === null ? [] : [`Not usable: ${describeHalfRestored(halfRestored)}.`]),
    ...(imageFormat === null ? [] : [`Not a raw disk: ${describeFormat(imageFormat)}.`]),
    ...section(
      'Used:',
      uses.map(({ how }) => how),
      'by nobody, as far as is known',
    ),
    ...section('Mounted from it, in the order to freeze:', filesystems.map(describeFilesystem), 'nothing'),
    ...(notes.length === 0 ? [] : section("Can't be frozen:", notes, '')),
    ...section('Ways to back it up:', providers.flatMap(describeProvider), ''),
    chosen === null
      ? `None of them can be used now. ${uses[0]?.remedy ?? ''}`
      : halfRestored === null
        ? `It would be backed up with "${chosen}".`
        : `It would not be backed up: run the restore again, or use --accept-half-restored; then with "${chosen}".`,
  ];
}

function describeProvider({ provider, usable, reason, remedy, ...gain }: ProviderChoice): string[] {
  return [
    `${provider}: ${usable ? 'yes' : 'no'}, ${reason}`,
    // It may name this very command, for those who meet it elsewhere.
    ...(remedy === null || remedy.includes('stillpoint inspect') ? [] : [`  remedy: ${remedy}`]),
    `  points: ${gain.kinds.join(', ')}`,
    `  changes: ${gain.changes}`,
    `  cost: ${gain.cost}`,
  ];
}

function section(title: string, lines: readonly string[], none: string): string[] {
  return lines.length === 0 ? [`${title} ${none}`] : [title, ...lines.map((line) => `  ${line}`)];
}

function describeFilesystem({ path, type, mount, readOnly }: Filesystem): string {
  const state = readOnly ? ', read-only' : mount === null ? ', hidden by other mounts' : '';
  return `${path} (${type}${state})`;
}
