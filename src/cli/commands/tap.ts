/** `stillpoint tap ...`: puts a tap in the path of a device's reads and writes, shows it, removes it. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { defaultName } from '../../config/default-name.js';
import { runDirectory } from '../../config/state-directory.js';
import { StillpointError } from '../../domain/base/errors.js';
import { BLOCK_SIZE_DEFAULT } from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import { parseSize } from '../../domain/base/quantities.js';
import { geometry } from '../../domain/blocks/geometry.js';
import { checkoutPath } from '../../native/checkout.js';
import type { RegisteredTap } from '../../tap/registry/registry.js';
import type { TapSettings } from '../../tap/registry/settings.js';
import type { TapSource } from '../../tap/source/source.js';
import type { CommandContext, Run } from '../common/context.js';
import { addJournalOptions, type JournalOptions, journalSettings } from '../options/tap-journal.js';
import { EXIT_OK, EXIT_WARNINGS } from '../output/exit-codes.js';
import { describeTap, listLines, type ShownTap, tapJson } from '../output/tap-view.js';

interface AddOptions extends JournalOptions {
  readonly name?: string;
  readonly listen?: readonly string[];
  readonly unprotected?: boolean;
  readonly export?: string;
  readonly readOnly?: boolean;
  readonly blockSize: number;
  readonly preserveDir?: string;
  readonly preserveMax?: number;
  readonly throttle?: boolean;
  readonly attach?: boolean;
  readonly start: boolean;
  readonly raw?: boolean;
}

const COMMAND = checkoutPath('bin/stillpoint.js');
const NAME_HELP = 'the name of the tap';

export function addTapCommands(program: Command, run: Run): void {
  const tap = program
    .command('tap')
    .description(
      'serves a device over NBD and remembers what is written to it, so that it can be backed up while in use',
    );
  addAdd(tap, run);
  addSet(tap, run);
  tap
    .command('list')
    .description('list the taps of this machine')
    .action(() => run(list));
  const named = (name: string, description: string): Command =>
    tap.command(name).description(description).argument('<name>', NAME_HELP);
  tap
    .command('status')
    .description('show what a tap serves, to whom, and what its map knows')
    .argument('<name>', `${NAME_HELP}, or the path (with a slash) of what it serves or is attached as`)
    .action((name: string) => run((context) => status(context, name)));
  named('start', 'start the process of a tap').action((name: string) =>
    run((context) => start(context, name)),
  );
  named('stop', 'stop the process of a tap; its map stays')
    .option('--force', 'even while it is in use: the I/O of its users fails')
    .action((name: string, { force }: { force?: boolean }) =>
      run((context) => stop(context, name, force === true)),
    );
  named('serve', 'run the process of a tap until it is stopped; the systemd unit uses this').action(
    (name: string) => run((context) => serve(context, name)),
  );
  named('remove', 'stop a tap and forget it, with its map and its journal; the device stays as it is')
    .option('--force', 'even while it is in use: the I/O of its users fails')
    .action((name: string, { force }: { force?: boolean }) =>
      run((context) => remove(context, name, force === true)),
    );
}

function addAdd(tap: Command, run: Run): void {
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];
  const size = (what: string) => (text: string) => parseSize(what, text);
  const command = tap
    .command('add')
    .description('put a tap on a device or an image, and start it')
    .argument('<device>', 'block device or disk image that nobody uses')
    .option('--name <name>', `${NAME_HELP} (default: made from the path)`)
    .option(
      '--listen <address>',
      'unix:PATH or tcp:HOST:PORT, may be repeated (default: a socket of its own)',
      collect,
    )
    .option(
      '--unprotected',
      'allow tcp addresses that other machines reach: NBD has neither passwords nor encryption',
    )
    .option('--export <name>', "the name of the NBD export (default: the tap's)")
    .option('--read-only', 'refuse all writes')
    .addOption(
      new Option('--block-size <size>', 'grain of the map, from 4K to 4M, a power of two')
        .default(BLOCK_SIZE_DEFAULT, '64K')
        .argParser(size('block size')),
    )
    .option('--preserve-dir <dir>', 'where original blocks go while a backup reads (default: beside the map)')
    .option(
      '--preserve-max <size>',
      'most space for them (default: a tenth of the device, at least 1G, at most half of the free space)',
      size('size of the preserve area'),
    )
    .option('--throttle', 'let writes wait when that is full (default: the backup fails, writes never wait)');
  addJournalOptions(command)
    .option('--attach', 'make it a block device of this machine, /dev/nbdN')
    .option('--no-start', 'do not start it yet')
    .option('--raw', 'serve a qcow2, VMDK or other image as it is: users get the container')
    .action((device: string, options: AddOptions) => run((context) => add(context, device, options)));
}

function addSet(tap: Command, run: Run): void {
  const command = tap
    .command('set')
    .description('give a tap a journal or take it away, from its next start on; its map stays')
    .argument('<name>', NAME_HELP);
  addJournalOptions(command)
    .option('--no-journal', 'no journal; what was written down and is not at the receiver is lost')
    .action((name: string, options: JournalOptions) => run((context) => set(context, name, options)));
}

async function add(context: CommandContext, device: string, options: AddOptions): Promise<number> {
  const { addTap, removeTap } = await import('../../tap/registry/registry.js');
  const settings = await settingsOf(context, device, options);
  const tap = await addTap(context.stateDirectory, settings);
  if (!options.start) return show(context, tap, 'added');
  try {
    await launch(context, tap);
  } catch (error) {
    // A tap that never served knows nothing that is worth keeping. One that may still
    // start is left for a look.
    if (await hasUnit(context)) await (await import('../../tap/launch.js')).disableUnit(tap);
    await removeTap(context.stateDirectory, tap).catch(() => undefined);
    throw error;
  }
  return show(context, tap, 'added');
}

async function settingsOf(
  context: CommandContext,
  device: string,
  options: AddOptions,
): Promise<TapSettings> {
  const { stateDirectory, environment, userId } = context;
  const { join } = await import('node:path');
  const { runDirectoryOf, spoolDirectoryOf } = await import('../../tap/registry/registry.js');
  const { readSource } = await import('../../tap/source/source.js');
  const { checkPreserveDirectory, defaultPreserveMax } = await import('../../tap/source/preserve.js');
  const sourcePath = resolve(device);
  const source = await readSource(sourcePath);
  // The tap's users write to it.
  const { refuseProtected } = await import('../../agent/target/protected.js');
  await refuseProtected(source.path, { stateDirectory });
  if (options.raw !== true) await checkFormat(context, source);
  const name = checkName('tap', options.name ?? defaultName(sourcePath));
  const { blockSize } = geometry(0, options.blockSize);
  const sockets = runDirectoryOf(runDirectory(stateDirectory, environment, userId), name);
  const listen = options.listen ?? [`unix:${join(sockets, 'nbd.sock')}`];
  await checkListen(listen, options);
  const preserveDirectory =
    options.preserveDir === undefined
      ? join(stateDirectory, 'taps', name, 'preserve')
      : resolve(options.preserveDir);
  await checkPreserveDirectory(preserveDirectory, source, null);
  const spoolDirectory = spoolDirectoryOf(stateDirectory, name);
  const readOnly = options.readOnly === true;
  const none = { attached: null, before: null };
  const journal = await journalSettings(options, { source, readOnly, spoolDirectory, ...none });
  return {
    ...{ name, sourcePath, listen, blockSize, preserveDirectory },
    exportName: options.export ?? name,
    ...{ readOnly, journal },
    preserveMaxBytes: options.preserveMax ?? (await defaultPreserveMax(source, preserveDirectory)),
    whenFull: options.throttle === true ? 'throttle' : 'fail',
    attach: options.attach === true,
    runDirectory: sockets,
    createdAt: new Date().toISOString(),
  };
}

async function set(context: CommandContext, name: string, options: JournalOptions): Promise<number> {
  const { readTap } = await import('../../tap/registry/registry.js');
  const { setJournal } = await import('../../tap/registry/set-journal.js');
  const { readSource } = await import('../../tap/source/source.js');
  const { attachedDevice } = await import('../../tap/attach.js');
  const tap = await readTap(context.stateDirectory, name);
  const { sourcePath, readOnly, journal: before } = tap.settings;
  const isChanged = before !== null && (options.journalDir ?? options.journalMax) !== undefined;
  const { journal = isChanged ? true : undefined } = options;
  if (journal === undefined) {
    throw new StillpointError('usage', {
      thing: `tap ${name}`,
      reason: 'nothing says whether it is to have a journal',
      remedy: 'Add --journal or --no-journal.',
    });
  }
  const [source, attached] = await Promise.all([readSource(sourcePath), attachedDevice(tap)]);
  const { spoolDirectory } = tap;
  const about = { source, readOnly, spoolDirectory, attached, before };
  const changed = await setJournal(
    context.stateDirectory,
    tap,
    await journalSettings({ ...options, journal }, about),
  );
  const runs = (await look(changed)).report !== null;
  return show(context, changed, runs ? 'set, from its next start on' : 'set');
}

/**
 * A machine that is given the address of a container sees no disk, and may write over it. On a block device
 * it is a warning: what an earlier user has left at its beginning says little about it.
 */
async function checkFormat({ output }: CommandContext, { kind, path }: TapSource): Promise<void> {
  const { describeFormat, imageFormatOf } = await import('../../devices/facts/image-format.js');
  const format = await imageFormatOf(path);
  if (format === null) return;
  if (kind === 'block') return output.warn(`${path}: ${describeFormat(format)}`);
  throw new StillpointError('usage', {
    thing: path,
    reason: describeFormat(format),
    remedy: `Convert it first (qemu-img convert -O raw ${path} NEW); --raw serves it as it is.`,
  });
}

async function checkListen(
  listen: readonly string[],
  { unprotected, attach }: Pick<AddOptions, 'unprotected' | 'attach'>,
): Promise<void> {
  const { isLocal, parseListenAddress } = await import('../../tap/registry/listen-address.js');
  const addresses = listen.map((text) => ({ text, parsed: parseListenAddress(text) }));
  const open = addresses.find(({ parsed }) => !isLocal(parsed));
  if (open !== undefined && unprotected !== true) {
    throw new StillpointError('usage', {
      thing: `listen address ${open.text}`,
      reason:
        'anyone who can connect could read and write the device: NBD has neither passwords nor encryption',
      remedy: 'Listen on unix:PATH or tcp:127.0.0.1:PORT; --unprotected is for an isolated network.',
    });
  }
  if (attach === true && !addresses.some(({ parsed }) => parsed.kind === 'unix')) {
    throw new StillpointError('usage', {
      thing: '--attach',
      reason: 'it needs a unix socket to connect to',
      remedy: 'Add --listen unix:PATH, or leave --listen out.',
    });
  }
}

/** The unit is for the taps of the machine, which are in the default state directory. */
async function hasUnit({ stateDirectory, userId }: CommandContext): Promise<boolean> {
  const launcher = await import('../../tap/launch.js');
  const { stateDirectory: defaultState } = await import('../../config/state-directory.js');
  return userId === 0 && stateDirectory === defaultState(undefined, {}, 0) && launcher.hasUnit();
}

async function launch(context: CommandContext, tap: RegisteredTap): Promise<void> {
  const { startProcess, startUnit } = await import('../../tap/launch.js');
  if (await hasUnit(context)) {
    await startUnit(tap);
    return;
  }
  const { stateDirectory, logLevel } = context;
  const options = ['--state', stateDirectory, '--json', '--log-level', logLevel];
  await startProcess(tap, [process.execPath, COMMAND, ...options, 'tap', 'serve', tap.settings.name]);
}

async function list(context: CommandContext): Promise<number> {
  const { listTaps } = await import('../../tap/registry/registry.js');
  const shown = await Promise.all((await listTaps(context.stateDirectory)).map(look));
  context.output.result({ taps: shown.map(tapJson) }, listLines(shown), true);
  return EXIT_OK;
}

async function status(context: CommandContext, name: string): Promise<number> {
  const shown = await look(await tapOf(context, name));
  context.output.result(tapJson(shown), describeTap(shown), true);
  return EXIT_OK;
}

async function tapOf({ stateDirectory }: CommandContext, nameOrPath: string): Promise<RegisteredTap> {
  if (!nameOrPath.includes('/')) {
    const { readTap } = await import('../../tap/registry/registry.js');
    return readTap(stateDirectory, nameOrPath);
  }
  const { findTap } = await import('../../tap/find.js');
  const found = await findTap(stateDirectory, nameOrPath);
  if (found !== null) return found.tap;
  throw new StillpointError('device-unknown', {
    thing: nameOrPath,
    reason: 'no tap serves it',
    remedy: `Put one on it: stillpoint tap add ${nameOrPath}`,
  });
}

async function look(tap: RegisteredTap): Promise<ShownTap> {
  const { reportOf } = await import('../../tap/launch.js');
  return { settings: tap.settings, report: await reportOf(tap) };
}

async function show(context: CommandContext, tap: RegisteredTap, done: string): Promise<number> {
  const shown = await look(tap);
  const problem = shown.report?.attachment.problem ?? null;
  if (problem !== null) context.output.warn(`${tap.settings.name} is not attached: ${problem}`);
  const [first = '', ...lines] = describeTap(shown);
  context.output.result(tapJson(shown), [`${first} (${done})`, ...lines]);
  return problem === null ? EXIT_OK : EXIT_WARNINGS;
}

async function start(context: CommandContext, name: string): Promise<number> {
  const { readTap } = await import('../../tap/registry/registry.js');
  const tap = await readTap(context.stateDirectory, name);
  if ((await look(tap)).report !== null) return show(context, tap, 'it was running');
  await launch(context, tap);
  return show(context, tap, 'started');
}

async function stop(context: CommandContext, name: string, force: boolean): Promise<number> {
  const { readTap } = await import('../../tap/registry/registry.js');
  const tap = await readTap(context.stateDirectory, name);
  await endTap(tap, force);
  context.output.result({ name, stopped: true }, [`${name}: stopped`]);
  return EXIT_OK;
}

async function endTap(tap: RegisteredTap, force: boolean): Promise<void> {
  const { checkIdle } = await import('../../tap/idle.js');
  const { stopTap } = await import('../../tap/launch.js');
  if (!force) await checkIdle(tap);
  await stopTap(tap);
}

async function remove(context: CommandContext, name: string, force: boolean): Promise<number> {
  const { readTap, removeTap } = await import('../../tap/registry/registry.js');
  const { detach } = await import('../../tap/attach.js');
  const { disableUnit } = await import('../../tap/launch.js');
  const tap = await readTap(context.stateDirectory, name);
  await endTap(tap, force);
  await detach(tap, force);
  if (await hasUnit(context)) await disableUnit(tap);
  await removeTap(context.stateDirectory, tap);
  const { sourcePath } = tap.settings;
  context.output.result({ name, removed: true, sourcePath }, [
    `${name}: removed; ${sourcePath} stays as it is`,
  ]);
  return EXIT_OK;
}

async function serve(context: CommandContext, name: string): Promise<number> {
  const { native } = await import('../../native/index.js');
  const { readTap } = await import('../../tap/registry/registry.js');
  const { serveTap } = await import('../../tap/daemon.js');
  const { createLog } = await import('../common/log.js');
  const tap = await readTap(context.stateDirectory, name);
  const log = createLog(context.logLevel, context.stdout);
  await serveTap({ tap, addon: native, log, signal: context.signal });
  return EXIT_OK;
}
