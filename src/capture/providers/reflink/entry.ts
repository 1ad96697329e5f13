/** `reflink` among the providers. */
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { onDevice } from '../../../devices/system/device-error.js';
import { findUses } from '../../../devices/system/in-use.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { errnoNameOf, tellErrno } from '../../../domain/base/system-errors.js';
import { type CloneFileSystem, expectedStall, type Stall } from '../../../domain/device/clones.js';
import { type CloneSupport, native } from '../../../native/index.js';
import type { Probe, ProbeRequest, ProviderGain } from '../../ports.js';
import { type ImageFile, type ListedClone, listClones, openImage } from './clone-file.js';
import { prepareReflink } from './reflink.js';

export const reflinkEntry = {
  name: 'reflink',
  takesDevicesInUse: true,
  probe: ({ path, stateDirectory, isNamed = false }: ProbeRequest): Promise<Probe> =>
    onDevice(path, async () => {
      const found = await look(path);
      const gain = { ...gainOf(found), seenAs: [] };
      const refusal = found.refusal ?? (isNamed ? whyNever(path, found) : whyNotByItself(path, found));
      if (refusal !== null) return { ...gain, ...refuse(path, refusal), isSetUp: found.clone !== null };
      return {
        ...gain,
        possible: true,
        reason: 'it lies on a file system that clones files, so a clone holds its instant while others write',
        prepare: async (options) => {
          if (stateDirectory === null) throw new Error('there is no state directory to record clones in');
          return prepareReflink({ path, stateDirectory }, options);
        },
      };
    }),
} as const;

interface Refusal {
  readonly reason: string;
  readonly remedy: string;
}

interface Findings {
  /** Why it can't be cloned; null: it can. */
  readonly refusal: Refusal | null;
  /** Of the last backup; null: none is kept. */
  readonly clone: ListedClone | null;
  readonly extentCount: number;
  readonly stall: Stall | null;
  readonly isWritten: boolean;
}

const NOTHING: Omit<Findings, 'refusal'> = { clone: null, extentCount: 0, stall: null, isWritten: false };
const OTHERWISE = 'Back it up in another way, or move it to XFS or btrfs.';

async function look(path: string): Promise<Findings> {
  if (!(await stat(path)).isFile()) {
    const refusal = { reason: 'only image files can be cloned', remedy: 'Back it up in another way.' };
    return { ...NOTHING, refusal };
  }
  const image = await openImage(await realpath(path));
  try {
    return await lookAtImage(image);
  } finally {
    await image.handle.close();
  }
}

async function lookAtImage(image: ImageFile): Promise<Findings> {
  const support = await native.cloneSupport(image.handle.fd);
  const { fileSystem } = support;
  const refusal = whyNotCloned(support) ?? (await whyNotBeside(image));
  if (refusal !== null || fileSystem === null)
    return {
      ...NOTHING,
      refusal: refusal ?? { reason: 'it lies on another file system', remedy: OTHERWISE },
    };
  return { refusal: null, ...(await measure(image, fileSystem)) };
}

async function measure(image: ImageFile, fileSystem: CloneFileSystem): Promise<Omit<Findings, 'refusal'>> {
  const extentCount = await native.countExtents(image.handle.fd);
  const [clone = null] = await listClones(image);
  const uses = await findUses(image.path, 'writers');
  const stall = expectedStall(fileSystem, extentCount);
  return { clone, extentCount, stall, isWritten: uses.some(({ writable }) => writable) };
}

function whyNotCloned({ fileSystem, withoutReflink, realtime }: CloneSupport): Refusal | null {
  if (fileSystem === null)
    return { reason: 'it lies on a file system that is neither XFS nor btrfs', remedy: OTHERWISE };
  if (withoutReflink)
    return {
      reason: 'it lies on XFS that was made without reflinks',
      remedy: 'Back it up in another way, or move it to XFS made with "mkfs.xfs -m reflink=1".',
    };
  if (realtime) return { reason: 'it lies on the realtime device of XFS', remedy: OTHERWISE };
  return null;
}

/** Whether a clone can be made beside it. */
async function whyNotBeside(image: ImageFile): Promise<Refusal | null> {
  const directory = dirname(image.path);
  const remedy = `Make ${directory} writable, or back it up in another way.`;
  try {
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    const errno = errnoNameOf(error);
    if (errno === null) throw error;
    const { reason } = tellErrno(errno, { thing: directory, place: 'file' });
    return { reason: `no clone can be made in ${directory}: ${reason}`, remedy };
  }
  const [own, beside] = await Promise.all([stat(image.path), stat(directory)]);
  if (own.dev === beside.dev) return null;
  return {
    reason: `${directory} is on another file system, so its clone can't lie there`,
    remedy: 'Name it by its path on its own file system.',
  };
}

/** What even a user who asks for it can't have. */
function whyNever(path: string, found: Findings): Refusal | null {
  return found.stall?.is === 'impossible'
    ? { reason: waitOf(found, found.stall), remedy: `Defragment it: ${defragment(path)}.` }
    : null;
}

/**
 * What makes it a bad choice, unless the user chooses it. An image that nobody writes to is its own static
 * view: a clone would be made for nothing, and only a clone of an earlier backup shows what changed.
 */
function whyNotByItself(path: string, found: Findings): Refusal | null {
  if (found.stall?.is === 'too-long')
    return {
      reason: waitOf(found, found.stall),
      remedy: `Defragment it (${defragment(path)}), or accept that: --provider reflink`,
    };
  if (!found.isWritten && found.clone === null)
    return {
      reason: 'nobody writes to it, so it needs no clone',
      remedy: 'To make one anyway, and keep it for finding changes, use "--provider reflink".',
    };
  return whyNever(path, found);
}

const waitOf = ({ extentCount }: Findings, { ms }: Stall): string =>
  `all that writes to it would wait some ${formatMs(ms)} for its clone, because it has ${extentCount} extents`;

const defragment = (path: string): string => `xfs_fsr ${path}; btrfs filesystem defragment ${path}`;

function gainOf({ clone, extentCount, stall }: Findings): ProviderGain {
  const wait =
    stall === null
      ? ''
      : `writers wait some ${formatMs(stall.ms)} (${extentCount} extents) for the clone, and `;
  return {
    kinds: ['application', 'filesystem', 'crash', 'idle'],
    changes:
      clone === null
        ? 'a clone that each backup keeps: the next one compares where the extents lie'
        : `${clone.path}, which the last backup kept; if it is removed, the next backup reads everything`,
    cost: `${wait}it keeps the space of what is overwritten until the next backup`,
  };
}

const formatMs = (ms: number): string =>
  ms < 1 ? '1 ms' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

function refuse(path: string, { reason, remedy }: Refusal): { possible: false; refusal: StillpointError } {
  return { possible: false, refusal: new StillpointError('usage', { thing: path, reason, remedy }) };
}
