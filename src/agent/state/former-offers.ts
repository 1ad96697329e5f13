/**
 * What `agent add` of the former version kept, `<state>/offers/<name>.json`, goes over into the
 * configuration, once. Each step is durable before the next, and the former file goes last: if the process
 * dies between them, the same is done again.
 *
 * | the former file | the configuration has its name | what is done                                   |
 * |-----------------|--------------------------------|------------------------------------------------|
 * | is there        | no                             | a drop-in is written, then the file is removed |
 * | is there        | yes, the same path             | the file is removed                            |
 * | is there        | yes, another path              | refused: one of the two has to go by hand      |
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type AgentConfig, nameOf } from '../../config/agent-config.js';
import { addDevice, type OfferedDevice } from '../../config/offered-devices.js';
import { readStateFile, type StateFormat } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { RATE_WINDOWS_MAX } from '../../domain/base/limits.js';
import { PROVIDER_NAMES } from '../../domain/device/provider-names.js';
import { PATCH_MODES } from '../../domain/session/patching.js';
import { syncDirectory } from '../../native/files.js';

const path = z.string().min(1).max(4096);
const milliseconds = z.number().min(0);
const count = z.int().min(0);

const offerFormat: StateFormat<OfferedDevice> = {
  format: 'stillpoint-offer',
  version: 1,
  schema: z
    .strictObject({
      name: z.string(),
      path: path.startsWith('/'),
      provider: z.enum(PROVIDER_NAMES).nullable(),
      blockSize: z.int().min(1).nullable(),
      compressionLevel: z.union([z.literal('auto'), z.int().min(0)]),
      patch: z.enum(PATCH_MODES),
      limitRate: z
        .strictObject({
          windows: z
            .array(z.strictObject({ fromMinute: count, toMinute: count, bytesPerSecond: count }))
            .max(RATE_WINDOWS_MAX),
          otherwise: count.nullable(),
        })
        .nullable(),
      fuzzy: z.boolean(),
      hooks: z.array(path).max(64),
      freeze: z.union([z.enum(['auto', 'none']), z.array(path).max(64)]),
      freezeDeadlineMs: milliseconds.nullable(),
      hookDeadlineMs: milliseconds.nullable(),
      quiet: z.strictObject({ quietMs: milliseconds, deadlineMs: milliseconds }).nullable(),
      addedAt: z.iso.datetime(),
    })
    .transform(({ addedAt: _, ...offer }) => offer),
};

/**
 * @returns the names that went over; the configuration is to be loaded again if there are any.
 * @throws StillpointError `config`
 */
export async function adoptFormerOffers(stateDirectory: string, config: AgentConfig): Promise<string[]> {
  const directory = join(stateDirectory, 'offers');
  const files = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const adopted: string[] = [];
  for (const file of files.filter((each) => /^[^.].*\.json$/.test(each)).sort()) {
    const offer = await readStateFile(join(directory, file), offerFormat);
    if (offer === null) continue;
    const present = config.devices.find((device) => nameOf(device) === offer.name);
    if (present === undefined) await addDevice(config, offer);
    else if (present.path !== offer.path) throw clash(join(directory, file), offer, present);
    await rm(join(directory, file), { force: true });
    await syncDirectory(directory);
    adopted.push(offer.name);
  }
  return adopted;
}

function clash(
  file: string,
  offer: OfferedDevice,
  present: Pick<AgentConfig['devices'][number], 'path' | 'origin'>,
): StillpointError {
  const { origin } = present;
  return new StillpointError('config', {
    thing: `device ${offer.name}`,
    reason: `${origin.file}:${origin.line} has ${present.path} under this name, and ${file}, which an earlier version wrote, has ${offer.path}`,
    remedy: 'Remove that file, or change the name in the configuration.',
  });
}
