/** The receiver's configuration for commands: whether it names a store, and what then comes from it. */
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import {
  loadReceiverConfig,
  type ReceiverConfig,
  retentionFile,
  storeOfConfig,
} from '../../config/receiver-config.js';
import { managedRetention } from '../../config/schema/retention.js';
import { StillpointError } from '../../domain/base/errors.js';
import { initReceiver, readSettings } from '../../receiver/access/identity.js';
import {
  hiddenRounds,
  type RoundsSource,
  roundsOfConfiguration,
  roundsOfDirectory,
} from '../../receiver/orders/rounds-source.js';
import type { RetentionService } from '../../receiver/retention/service.js';
import type { CommandContext } from './context.js';

type Context = Pick<CommandContext, 'configDirectory'> & {
  readonly stateDirectory: string;
};

const real = (path: string): Promise<string> => realpath(path).catch(() => resolve(path));

/** Null: no configuration names the store. @throws StillpointError `config` */
export async function configOfStore(context: Context, dir: string): Promise<ReceiverConfig | null> {
  const config = await loadReceiverConfig(context.configDirectory);
  if (config.files.length === 0) return null;
  return (await real(storeOfConfig(config, context.stateDirectory))) === (await real(dir)) ? config : null;
}

/** A sentence, if there is a configuration, but for another store. For a service it is surely a mistake. */
export async function otherStoreConfigured(context: Context, dir: string): Promise<string | null> {
  const config = await loadReceiverConfig(context.configDirectory);
  const [file] = config.files;
  if (file === undefined || (await configOfStore(context, dir)) !== null) return null;
  return `${file} is for the store ${storeOfConfig(config, context.stateDirectory)}, not for ${dir}: nothing of it counts here. Write store = "${dir}" into it if it should.`;
}

/** @param tell is told what the configuration hides */
export async function roundsOf(
  context: Context,
  dir: string,
  tell: (text: string) => void,
): Promise<RoundsSource> {
  const config = await configOfStore(context, dir);
  if (config === null) return roundsOfDirectory(dir);
  for (const text of await hiddenRounds(dir, config)) tell(text);
  const load = () => loadReceiverConfig(context.configDirectory);
  return roundsOfConfiguration(dir, load, () => new Date());
}

/**
 * What the configuration says of where the receiver listens, and how long it keeps unfinished backups, is
 * copied into the store's own settings, which all commands read.
 */
export async function applyConfig(context: Context, dir: string): Promise<ReceiverConfig | null> {
  const config = await configOfStore(context, dir);
  if (config === null) return null;
  const { listen, url, 'keep-partial': keepPartialMs, scrub } = config.settings;
  const wanted = {
    ...(listen === null ? {} : { listen }),
    ...(url === null ? {} : { url }),
    ...(keepPartialMs === null ? {} : { keepPartialMs }),
    ...(scrub.period === null ? {} : { scrubPeriodMs: scrub.period }),
  };
  const present = await readSettings(dir);
  const differs = Object.entries(wanted).some(
    ([key, value]) => present[key as keyof typeof present] !== value,
  );
  if (differs) await initReceiver(dir, wanted);
  return config;
}

/** What the configuration says of what is kept counts in place of what commands had set, and back. */
export async function applyRetention(
  context: Context,
  dir: string,
  retention: Pick<RetentionService, 'applyManaged' | 'releaseManaged'>,
): Promise<void> {
  const config = await configOfStore(context, dir);
  const file = config === null ? null : retentionFile(config);
  if (config === null || file === null) return retention.releaseManaged();
  await retention.applyManaged(managedRetention(config.settings.retention), file);
}

/** For `receiver init`. @throws StillpointError `config` for what the configuration says otherwise */
export async function refuseConfigured(
  context: Context,
  dir: string,
  keys: readonly ('listen' | 'url' | 'keep-partial' | 'scrub.period')[],
): Promise<void> {
  const config = await configOfStore(context, dir);
  for (const key of keys) {
    const origin = config?.origins.get(key);
    if (origin === undefined) continue;
    throw new StillpointError('config', {
      thing: `--${key.split('.')[0]}`,
      reason: `${origin.file}:${origin.line} says it for this receiver`,
      remedy: 'Change it there.',
    });
  }
}
