/** The command line: global options, signals, exit codes. The commands are in commands/. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import { findConfigDirectory } from '../config/config-directory.js';
import { findStateDirectory, stateDirectory } from '../config/state-directory.js';
import { StillpointError } from '../domain/base/errors.js';
import { addAgent } from './commands/agent.js';
import { addBackup } from './commands/backup.js';
import { addCompare } from './commands/compare.js';
import { addConfig } from './commands/config.js';
import { addDiff } from './commands/diff.js';
import { addEnroll } from './commands/enroll.js';
import { addInspect } from './commands/inspect.js';
import { addMap } from './commands/looking/map.js';
import { addUsage } from './commands/looking/usage.js';
import { addPoints } from './commands/points.js';
import { addReceiver } from './commands/receiver/receiver.js';
import { addRestore } from './commands/restore/restore.js';
import { addCollect } from './commands/retention/collect.js';
import { addForget } from './commands/retention/forget.js';
import { addPins } from './commands/retention/pin.js';
import { addPrune } from './commands/retention/prune.js';
import { addRetention } from './commands/retention/retention.js';
import { addStatus } from './commands/status.js';
import { addTapCommands } from './commands/tap.js';
import { addTrackCommands } from './commands/track.js';
import { addVerify } from './commands/verify.js';
import { type CommandContext, LOG_LEVELS, type LogLevel, type Run } from './common/context.js';
import { untilSignal } from './common/signals.js';
import { ownVersion } from './common/version.js';
import { EXIT_CODE_HELP, EXIT_OK, EXIT_SIGNALS_FROM, EXIT_USAGE, exitCodeOf } from './output/exit-codes.js';
import { Output, type TextSink } from './output/output.js';
import { standardError, standardOutput } from './output/standard-output.js';
import { tellUncaught } from './output/uncaught.js';

/** The process's surroundings, so that tests can run commands inside their own process. */
export interface Surroundings {
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly userId: number;
}

interface GlobalOptions {
  readonly state?: string;
  readonly config?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly logLevel: LogLevel;
}

/** The whole process: runs the command and sets the exit code. What nobody catches ends in one line, too. */
export async function runProcess(argv: readonly string[]): Promise<void> {
  const environment = process.env;
  const stderr = standardError();
  tellUncaught(stderr, environment);
  const stdout = standardOutput(environment);
  const exitCode = await main(argv, { stdout, stderr, environment, userId: process.getuid?.() ?? 0 });
  // Stopped by a signal: what a stuck reader of stdout has not taken is not waited for.
  if (exitCode > EXIT_SIGNALS_FROM) process.exit(exitCode);
  process.exitCode = exitCode;
}

/** @param argv without node and script. @returns the exit code; never rejects. */
export async function main(argv: readonly string[], surroundings: Surroundings): Promise<number> {
  const { stdout, stderr } = surroundings;
  let output = new Output({ json: argv.includes('--json'), quiet: false, stdout, stderr });
  const exitCode = await parseAndRun(argv, surroundings, (replaced) => {
    output = replaced;
  }).catch((error: unknown) => {
    if (!(error instanceof CommanderError)) {
      output.error(error);
      return exitCodeOf(error);
    }
    if (error.exitCode === 0) return EXIT_OK;
    if (error.code !== 'commander.help') output.error(usageError(error));
    return EXIT_USAGE;
  });
  return exitCode > EXIT_SIGNALS_FROM ? exitCode : output.delivered(exitCode);
}

/** @param onOutput is told how this command speaks, before it begins. */
async function parseAndRun(
  argv: readonly string[],
  surroundings: Surroundings,
  onOutput: (output: Output) => void,
): Promise<number> {
  const { stdout, stderr, environment, userId } = surroundings;
  let exitCode: number = EXIT_OK;
  const run: Run = async (work) => {
    const options = program.opts<GlobalOptions>();
    const config = findConfigDirectory({ config: options.config, state: options.state }, environment, userId);
    const state = findStateDirectory(
      options.state ?? environment.STILLPOINT_STATE ?? (await configuredState(config)),
      environment,
      userId,
    );
    const output = new Output({
      ...{ json: options.json === true, quiet: options.quiet === true, stdout, stderr },
      stateDirectory: state,
    });
    onOutput(output);
    exitCode = await untilSignal(async (signal) => {
      const context: CommandContext = {
        get stateDirectory() {
          return state ?? stateDirectory(options.state, environment, userId);
        },
        get configDirectory() {
          if (config !== null) return config;
          throw new StillpointError('config', {
            thing: 'configuration directory',
            reason: `user ${userId} has no home directory for it`,
            remedy: 'Name one with --config or STILLPOINT_CONFIG.',
          });
        },
        stateDirectoryIfAny: state,
        output,
        stdout,
        logLevel: options.logLevel,
        environment,
        userId,
        signal,
      };
      return work(context);
    }, output);
  };
  const program = buildProgram(run, surroundings);
  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}

/** Also what manual pages and completions are made of: scripts/manual.mjs. */
export function buildProgram(run: Run, { stdout, stderr }: Surroundings): Command {
  const program = new Command('stillpoint')
    .description(
      'Backs up block devices and disk images to a receiver: changed blocks only, one instant, bit for bit.',
    )
    .version(ownVersion())
    .option('--state <dir>', 'where this machine keeps enrolments and digest trees (also: STILLPOINT_STATE)')
    .option('--config <dir>', 'where agent.toml and receiver.toml are (also: STILLPOINT_CONFIG)')
    .option('--json', 'print one JSON object a line, for programs; the last one is the result')
    .option('--quiet', 'print no progress, only results, warnings and errors')
    .addOption(
      new Option('--log-level <level>', "level of a receiver's, an agent's or a tap's log")
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .addHelpText('after', EXIT_CODE_HELP);
  for (const add of [
    addBackup,
    addPoints,
    addRestore,
    addVerify,
    addDiff,
    addMap,
    addUsage,
    addCompare,
    addInspect,
    addRetention,
    addPrune,
    addForget,
    addPins,
    addCollect,
    addTapCommands,
    addTrackCommands,
    addEnroll,
    addAgent,
    addStatus,
    addReceiver,
    addConfig,
  ])
    add(program, run);
  const quietly = (command: Command): void => {
    // Errors are told by Output, in the one form that all errors have.
    command.exitOverride().configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: () => undefined,
    });
    command.configureHelp({ showGlobalOptions: true });
    command.commands.forEach(quietly);
  };
  quietly(program);
  return program;
}

/** What agent.toml says of the state directory. The parser is loaded only if it seems to say anything. */
async function configuredState(config: string | null): Promise<string | undefined> {
  if (config === null) return undefined;
  let text: string;
  try {
    text = readFileSync(join(config, 'agent.toml'), 'utf8');
  } catch {
    return undefined;
  }
  if (!/^\s*["']?state["']?\s*=/m.test(text)) return undefined;
  const { checkAgentConfig } = await import('../config/agent-config.js');
  // What is wrong elsewhere in it is told by those who need it.
  return (await checkAgentConfig(config)).settings.state ?? undefined;
}

function usageError(error: CommanderError): StillpointError {
  const [reason = '', hint] = error.message.replace(/^error: /, '').split('\n');
  return new StillpointError('usage', {
    thing: 'command line',
    reason: reason.replace(/\.$/, ''),
    remedy: hint === undefined || hint === '' ? 'See --help.' : hint.replace(/^\((.*)\)$/, '$1'),
  });
}
