/** `stillpoint config check | show`: what the configuration says, and what is wrong with it. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { ConfigFault } from '../../config/load/faults.js';
import type { EffectiveValue } from '../../config/load/validate.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { CommandContext, Run } from '../common/context.js';
import { EXIT_OK, EXIT_USAGE } from '../output/exit-codes.js';

const KINDS = ['agent', 'receiver'] as const;
type Kind = (typeof KINDS)[number];

export function addConfig(program: Command, run: Run): void {
  const config = program.command('config').description('check and show the configuration of this machine');
  config
    .command('check')
    .description('name everything that is wrong in the configuration, or in files that are not in use yet')
    .argument('[files...]', 'files to check by themselves (default: all files of the configuration)')
    .addOption(new Option('--as <part>', 'what the files are (default: as their names say)').choices(KINDS))
    .action((files: string[], options: { as?: Kind }) =>
      run((context) => checkFiles(context, files, options.as)),
    );
  config
    .command('show')
    .description('show all values that apply, and where each is written')
    .argument('[part]', 'agent or receiver (default: both)')
    .option('--written', 'only values that are written in a file')
    .action((part: string | undefined, options: { written?: boolean }) =>
      run((context) => show(context, part, options.written === true)),
    );
  config
    .command('reference')
    .description('print the reference of all keys, as Markdown')
    .action(() => run(printReference));
}

function isKind(text: string): text is Kind {
  return KINDS.some((kind) => kind === text);
}

async function printReference({ output }: CommandContext): Promise<number> {
  const { reference } = await import('../../config/reference.js');
  const text = reference();
  output.result({ reference: text }, text.trimEnd().split('\n'), true);
  return EXIT_OK;
}

interface Part {
  readonly kind: Kind;
  readonly files: readonly string[];
  readonly values: readonly EffectiveValue[];
  readonly faults: readonly ConfigFault[];
}

async function load(context: CommandContext, kind: Kind, files?: readonly string[]): Promise<Part> {
  const { configDirectory } = context;
  if (kind === 'agent') {
    const { checkAgentConfig } = await import('../../config/agent-config.js');
    return { kind, ...(await checkAgentConfig(configDirectory, files)) };
  }
  const { checkReceiverConfig } = await import('../../config/receiver-config.js');
  return { kind, ...(await checkReceiverConfig(configDirectory, files)) };
}

async function checkFiles(context: CommandContext, files: readonly string[], as?: Kind): Promise<number> {
  const { kindOfFile } = await import('../../config/load/read.js');
  const { faultText } = await import('../../config/load/faults.js');
  const parts: Part[] = [];
  if (files.length === 0) for (const kind of KINDS) parts.push(await load(context, kind));
  for (const file of files.map((each) => resolve(each))) {
    const kind = as ?? kindOfFile(file);
    if (kind === null) {
      throw new StillpointError('usage', {
        thing: file,
        reason: 'its name does not say whether it is of an agent or of a receiver',
        remedy: 'Say it with --as agent or --as receiver.',
      });
    }
    parts.push(await load(context, kind, [file]));
  }
  const faults = parts.flatMap((part) => part.faults);
  for (const fault of faults) context.output.part('fault', fault, [faultText(fault)]);
  const checked = parts.flatMap((part) => part.files);
  const told =
    checked.length === 0
      ? `There are no files in ${context.configDirectory}.`
      : `${checked.length === 1 ? '1 file' : `${checked.length} files`}, ${faults.length === 0 ? 'nothing is wrong' : `${faults.length} wrong`}`;
  context.output.result({ files: checked, faultCount: faults.length }, [told], faults.length > 0);
  return faults.length === 0 ? EXIT_OK : EXIT_USAGE;
}

async function show(
  context: CommandContext,
  part: string | undefined,
  onlyWritten: boolean,
): Promise<number> {
  const { tomlLiteral } = await import('../../config/toml/write.js');
  const { configError } = await import('../../config/load/faults.js');
  if (part !== undefined && !isKind(part)) {
    throw new StillpointError('usage', {
      thing: `part ${JSON.stringify(part.slice(0, 80))}`,
      reason: 'it is neither agent nor receiver',
    });
  }
  const lines: string[] = [];
  const parts: object[] = [];
  for (const kind of KINDS.filter((each) => part === undefined || each === part)) {
    const { files, values, faults } = await load(context, kind);
    if (faults.length > 0) throw configError(faults);
    const shown = values.filter(({ origin }) => origin !== null || !onlyWritten);
    lines.push(
      `# ${kind}: ${files.length === 0 ? `no files in ${context.configDirectory}` : files.join(', ')}`,
    );
    for (const { key, value, origin, otherwise } of shown) {
      const where = origin === null ? 'preset' : `${origin.file}:${origin.line}`;
      if (value === undefined) lines.push(`# ${key}: ${otherwise}`);
      else lines.push(`${key} = ${tomlLiteral(value as Parameters<typeof tomlLiteral>[0])}  # ${where}`);
    }
    parts.push({
      part: kind,
      files,
      values: shown.map(({ key, value = null, origin }) => ({
        key,
        value,
        file: origin?.file ?? null,
        line: origin?.line ?? null,
      })),
    });
  }
  context.output.result({ parts }, lines, true);
  return EXIT_OK;
}
