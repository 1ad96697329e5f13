/**
 * `stillpoint receiver init | serve | invite`: the side that stores backups. Its modules are loaded when they
 * are needed.
 */
import { type Command, Option } from 'commander';
import {
  PARTIAL_KEEP_MS,
  PARTIAL_KEEP_MS_MIN,
  SCRUB_PERIOD_MS,
  SCRUB_PERIOD_MS_MIN,
} from '../../../domain/base/limits.js';
import { parsePeriod } from '../../../domain/base/quantities.js';
import { parseRateLimit, type RateSchedule } from '../../../domain/session/rate-limit.js';
import type { CommandContext, Run } from '../../common/context.js';
import { addPlaceOptions } from '../../common/open-receiver.js';
import { recorded } from '../../common/recorded.js';
import type { PlaceChoice } from '../../common/store-place.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatDuration, formatInstant } from '../../output/format.js';
import { RECEIVER_DIRECTORY_HELP, receiverDirectory } from '../../service/receiver-directory.js';
import { addReceiverAgents } from './agents.js';
import { addReceiverAudit } from './audit.js';
import { addReceiverOrders } from './orders.js';
import { addRepair } from './repair.js';

export function addReceiver(program: Command, run: Run): void {
  const receiver = program.command('receiver').description('the side that keeps the backups');
  const init = receiver
    .command('init')
    .description('make a receiver with its identity and certificates, or change where it listens')
    .argument('[dir]', RECEIVER_DIRECTORY_HELP)
    .option('--listen <host:port>', 'where it listens (default: 0.0.0.0:8440)')
    .option('--url <url>', "what agents are told to connect to (default: this machine's name)")
    .addOption(
      keepPartialOption('how long unfinished backups are kept after their last message (default: 7d)'),
    )
    .addOption(scrubOption('within which all that is stored is read back, or "off" (default: 30d)'));
  addPlaceOptions(init).action((dir: string | undefined, options: InitChoice) =>
    run((context) => initialize(context, dir, options)),
  );
  receiver
    .command('serve')
    .description('serve agents until stopped')
    .argument('[dir]', RECEIVER_DIRECTORY_HELP)
    .option('--listen <host:port>', 'where to listen, for this run only')
    .option('--check', 'only say whether the settings, the keys and the store are right')
    .addOption(keepPartialOption('how long unfinished backups are kept, for this run only'))
    .addOption(scrubOption('within which all that is stored is read back, or "off", for this run only'))
    .addOption(
      new Option(
        '--scrub-rate <rate>',
        'most bytes a second that are read back: 20M; by local time: 08:00-18:00=5M,50M (default: what is needed)',
      ).argParser(parseRateLimit),
    )
    .action((dir: string | undefined, options: ServeChoice) =>
      run((context) => serve(context, dir, options)),
    );
  receiver
    .command('invite')
    .description('print a one-time code that a new agent enrolls with')
    .argument('<name>', "the agent's name")
    .option('--store <dir>', RECEIVER_DIRECTORY_HELP)
    .action((name: string, options: { store?: string }) =>
      run((context) => invite(context, name, options.store)),
    );
  addReceiverOrders(receiver, run, existingDirectory);
  addReceiverAgents(receiver, run, existingDirectory);
  addReceiverAudit(receiver, run, existingDirectory);
  addRepair(receiver, run, RECEIVER_DIRECTORY_HELP, existingDirectory);
}

interface ServeChoice {
  readonly listen?: string;
  /** In ms. */
  readonly keepPartial?: number;
  /** In ms; 0: off. */
  readonly scrub?: number;
  readonly scrubRate?: RateSchedule;
}

interface InitChoice extends ServeChoice, PlaceChoice {
  readonly url?: string;
}

function keepPartialOption(description: string): Option {
  return new Option('--keep-partial <period>', description).argParser((text) =>
    parsePeriod('period', text, PARTIAL_KEEP_MS_MIN),
  );
}

function scrubOption(description: string): Option {
  return new Option('--scrub <period>', description).argParser((text) =>
    text === 'off' ? 0 : parsePeriod('period', text, SCRUB_PERIOD_MS_MIN),
  );
}

/** @throws StillpointError `store-missing` where a store was, or a disk should be */
async function existingDirectory(context: CommandContext, dir: string | undefined): Promise<string> {
  const directory = await receiverDirectory(context, dir);
  const { placeToRead } = await import('../../common/store-place.js');
  const { actAsOwner } = await import('../../service/act-as-owner.js');
  await placeToRead(context.stateDirectory, directory);
  await actAsOwner(context, directory);
  return directory;
}

async function initialize(
  context: CommandContext,
  dir: string | undefined,
  { keepPartial, scrub, newStore, acceptStore, ...options }: InitChoice,
): Promise<number> {
  const directory = await receiverDirectory(context, dir);
  const { checkUrl, initReceiver, parseListen } = await import('../../../receiver/access/identity.js');
  const { placeToOwn } = await import('../../common/store-place.js');
  const { makeStoreIfMissing } = await import('../../common/open-store.js');
  const { actAsOwner, asOwner } = await import('../../service/act-as-owner.js');
  // Before anything is made.
  if (options.listen !== undefined) parseListen(options.listen);
  if (options.url !== undefined) checkUrl(options.url);
  const { refuseConfigured } = await import('../../common/receiver-settings.js');
  await refuseConfigured(context, directory, [
    ...(options.listen === undefined ? [] : ['listen' as const]),
    ...(options.url === undefined ? [] : ['url' as const]),
    ...(keepPartial === undefined ? [] : ['keep-partial' as const]),
    ...(scrub === undefined ? [] : ['scrub.period' as const]),
  ]);
  // What is known of stores is root's; the store is its owner's.
  const make = (place: string) => asOwner(context, place, () => makeStoreIfMissing(place));
  await placeToOwn(context.stateDirectory, directory, { newStore, acceptStore, make });
  await actAsOwner(context, directory);
  const settings = await recorded(
    directory,
    { what: 'setting', detail: 'receiver init' },
    () =>
      initReceiver(directory, {
        ...options,
        ...(keepPartial === undefined ? {} : { keepPartialMs: keepPartial }),
        ...(scrub === undefined ? {} : { scrubPeriodMs: scrub }),
      }),
    ({ listen, url, keepPartialMs = PARTIAL_KEEP_MS }) => ({
      detail: `listens on ${listen}, agents connect to ${url}, unfinished backups are kept ${formatDuration(keepPartialMs)}`,
    }),
  );
  context.output.result({ directory, ...settings }, [
    `Receiver in ${directory}`,
    `  listens on ${settings.listen}, agents connect to ${settings.url}`,
    `  keeps unfinished backups for ${formatDuration(settings.keepPartialMs ?? PARTIAL_KEEP_MS)}`,
    settings.scrubPeriodMs === 0
      ? '  reads nothing back by itself'
      : `  reads all that it stores back within ${formatDuration(settings.scrubPeriodMs ?? SCRUB_PERIOD_MS)}`,
    `  start it:         stillpoint receiver serve ${directory}`,
    `  invite an agent:  stillpoint receiver invite NAME --store ${directory}`,
  ]);
  return EXIT_OK;
}

async function serve(
  context: CommandContext,
  dir: string | undefined,
  { listen, keepPartial, scrub, scrubRate, check = false }: ServeChoice & { readonly check?: boolean },
): Promise<number> {
  const directory = await existingDirectory(context, dir);
  if (check) return checkService(context, directory, listen);
  const { startServer } = await import('../../../receiver/server.js');
  const { openStoreWithLog } = await import('../../common/open-store.js');
  const { createLog } = await import('../../common/log.js');
  const { serveUntilStopped } = await import('../../service/service.js');
  const log = createLog(context.logLevel, context.stdout);
  const { applyConfig, applyRetention, configOfStore, otherStoreConfigured, roundsOf } = await import(
    '../../common/receiver-settings.js'
  );
  const unused = await otherStoreConfigured(context, directory);
  if (unused !== null) log.warn(unused);
  const configured = await applyConfig(context, directory);
  const { monitorReceiver, openMetrics } = await import('../../service/monitoring.js');
  const metrics = configured && (await openMetrics('receiver', configured.settings.metrics));
  const rate = scrubRate ?? configured?.settings.scrub.rate ?? undefined;
  const server = await startServer({
    dir: directory,
    rounds: await roundsOf(context, directory, (text) => log.warn(text)),
    ...(listen === undefined ? {} : { listen }),
    ...(keepPartial === undefined ? {} : { keepPartialMs: keepPartial }),
    ...(scrub === undefined ? {} : { scrubPeriodMs: scrub }),
    ...(rate === undefined ? {} : { scrubRate: rate }),
    ...(metrics === null ? {} : { counters: metrics }),
    log,
    openStore: openStoreWithLog,
  });
  log.info({ store: directory }, 'store open');
  const applyKept = () => applyRetention(context, directory, server.retention);
  // If what is kept can't be read or written, nothing is removed, and agents are served anyway.
  await applyKept().catch((error: Error) => log.error({ reason: error.message }, 'retention is not applied'));
  let notify = configured?.settings.notify;
  const monitor =
    configured &&
    (await monitorReceiver({
      ...{ metrics, log, directory, server, listen: configured.settings.metrics.listen },
      notify: () => notify ?? configured.settings.notify,
    }));
  await serveUntilStopped(context, log, {
    status: `serving ${directory} at ${server.url}`,
    isAlive: () => server.isAlive(),
    // Rounds, groups, whom to dial, what is kept, who is told; the rest counts at the next start.
    reload: async () => {
      await server.remote.reload();
      await applyKept();
      notify = (await configOfStore(context, directory))?.settings.notify;
    },
  });
  log.info('stopping');
  await monitor?.close();
  await server.close();
  return EXIT_OK;
}

/** What would keep it from starting, without its turn at the store: another one may be serving. */
async function checkService(
  context: CommandContext,
  directory: string,
  listen: string | undefined,
): Promise<number> {
  const { loadIdentity, parseListen } = await import('../../../receiver/access/identity.js');
  const { findStoreIdentity } = await import('../../../store/open.js');
  const { configOfStore, otherStoreConfigured } = await import('../../common/receiver-settings.js');
  const { readGroups } = await import('../../../receiver/orders/group-settings.js');
  const { readAddresses, readSchedules } = await import('../../../receiver/orders/remote-settings.js');
  const { storeId } = await findStoreIdentity(directory);
  const { settings } = await loadIdentity(directory, new Date());
  const configured = await configOfStore(context, directory);
  const unused = await otherStoreConfigured(context, directory);
  if (unused !== null) context.output.warn(unused);
  await readSchedules(directory);
  await readGroups(directory);
  await readAddresses(directory);
  parseListen(listen ?? configured?.settings.listen ?? settings.listen);
  context.output.result({ directory, storeId, ...settings }, [`${directory}: the receiver can be started`]);
  return EXIT_OK;
}

async function invite(context: CommandContext, name: string, dir: string | undefined): Promise<number> {
  const directory = await existingDirectory(context, dir);
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { createInvite } = await import('../../../receiver/access/invites.js');
  const { url } = await readSettings(directory);
  const { code, expiresAt, replaces } = await recorded(directory, { what: 'invite', agent: name }, () =>
    createInvite(directory, name, new Date()),
  );
  if (replaces) {
    context.output.warn(
      `${name} is already enrolled: this code gets it a new certificate, and the present one is then refused`,
    );
  }
  context.output.note(
    `For the agent ${name}, good once, until ${formatInstant(expiresAt.toISOString())}. On its machine: stillpoint enroll ${url} CODE`,
  );
  context.output.stands('The code is lost: invite the agent again.');
  context.output.result(
    { agent: name, url, code, expiresAt: expiresAt.toISOString(), replaces },
    [code],
    true,
  );
  return EXIT_OK;
}
