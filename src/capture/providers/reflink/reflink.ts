/**
 * The provider `reflink`: an image on a file system that shares extents is cloned (FICLONE), and the clone is
 * the static view. It is atomic for the file: a point of kind `crash`, and of kind `filesystem` where the
 * file systems inside of the image were frozen around it.
 *
 * | clone    | file              | record | after a crash of this process                                   |
 * |----------|-------------------|--------|-----------------------------------------------------------------|
 * | prepared | empty, labelled   | none   | removed at the next backup                                      |
 * | cut      | as the image      | none   | removed at the next backup                                      |
 * | viewed   | on disk           | held   | believed if the receiver's last point is that of the session    |
 * | kept     | on disk           | kept   | the next backup compares with it; older ones are removed        |
 *
 * The clone of the last point pins its extents, so no other content can come to lie there: blocks whose
 * extents lie at the same place in the new clone are the same (native/core/reflink/extent_diff.h).
 */
import type { FileHandle } from 'node:fs/promises';
import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readDeviceIdentity } from '../../../devices/facts/device-identity.js';
import { fileTimes } from '../../../devices/facts/honest-times.js';
import { readImageFacts } from '../../../devices/facts/image-facts.js';
import { lockSource } from '../../../devices/locks/source-lock.js';
import { loopsOver } from '../../../devices/system/block-stack.js';
import { onDevice } from '../../../devices/system/device-error.js';
import { findUses } from '../../../devices/system/in-use.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { errnoNameOf, tellErrno } from '../../../domain/base/system-errors.js';
import { type BlockRange, mergeRanges } from '../../../domain/blocks/block-ranges.js';
import { boundedRanges, stallWarning } from '../../../domain/device/clones.js';
import type { ConsistencyKind } from '../../../domain/point/point.js';
import { syncDirectory } from '../../../native/files.js';
import { type Device, native } from '../../../native/index.js';
import { changedError, type HoldOptions, type Member, type Snapshot, type Tracking } from '../../ports.js';
import { quietBySamples } from '../../quiesce/quiet.js';
import { randomBlocks, withSample } from '../../sample.js';
import { inSteps } from '../../steps.js';
import { type CloneFile, createClone, type ImageFile, openImage, removeClone } from './clone-file.js';
import { type CloneRecord, removeRecord, writeRecord } from './clone-record.js';
import { imageWatch } from './image-quiet.js';
import { KeptClones } from './kept-clones.js';

export interface ReflinkSettings {
  readonly path: string;
  readonly stateDirectory: string;
  /** In [0, 1), for the sample. */
  readonly random?: () => number;
}

export async function prepareReflink(settings: ReflinkSettings, options: HoldOptions): Promise<Member> {
  const { path, stateDirectory } = settings;
  return onDevice(
    path,
    async () => {
      const real = await realpath(path);
      const lock = await lockSource(real);
      let session: ReflinkSession | null = null;
      try {
        session = new ReflinkSession(settings, options, lock, await openImage(real));
        return await session.prepare();
      } catch (error) {
        if (session === null) await lock?.close();
        else await session.release();
        throw error;
      }
    },
    { stateDirectory },
  );
}

interface CutFacts {
  readonly cloneMs: number;
  readonly instant: Date;
}

class ReflinkSession {
  readonly #settings: ReflinkSettings;
  readonly #options: HoldOptions;
  readonly #lock: FileHandle | null;
  readonly #image: ImageFile;
  #kept: KeptClones | null = null;
  #clone: CloneFile | null = null;
  #device: Device | null = null;
  /** The clone stays when the session is over: its point is committed, or may be. */
  #isLeft = false;

  constructor(settings: ReflinkSettings, options: HoldOptions, lock: FileHandle | null, image: ImageFile) {
    this.#settings = settings;
    this.#options = options;
    this.#lock = lock;
    this.#image = image;
  }

  async prepare(): Promise<Member> {
    const { path, stateDirectory } = this.#settings;
    const { sessionId, basePointId, doubt } = this.#options;
    const image = this.#image;
    const isWritten = (await findUses(image.path, 'writers')).some(({ writable }) => writable);
    const before = isWritten ? null : await readImageFacts(image.path);
    // Under other names, too: links and bind mounts.
    const loops = await loopsOver(await image.handle.stat({ bigint: true }));
    this.#kept = await KeptClones.take(image, stateDirectory, { sessionId, basePointId, doubt });
    const clone = await createClone(image, sessionId);
    this.#clone = clone;
    // So that little is left to be written while writers wait.
    await image.handle.datasync();
    const quiet = quietBySamples(imageWatch(image));
    let closedQuietMs: number | null = null;
    return inSteps({
      path,
      shownAt: isWritten ? [image.path, ...loops] : [],
      barrier: isWritten ? 'freeze' : 'unused',
      writesBeside: clone.path,
      quietMs: async () => {
        closedQuietMs = await quiet.quietMs();
        return closedQuietMs;
      },
      // The clone itself keeps writes out, for as long as it takes.
      close: async () => {
        if (closedQuietMs !== null) closedQuietMs = await quiet.quietMs();
        return closedQuietMs;
      },
      open: async () => undefined,
      cut: async () => {
        const facts = await this.#cut(clone);
        // Between the closing and the clone.
        const wasWritten = closedQuietMs !== null && (await quiet.quietMs()) < closedQuietMs;
        const after = before === null ? null : await readImageFacts(image.path);
        const stood = after?.times === before?.times && after?.isOpenForWriting === false;
        const kind = isWritten ? (wasWritten ? 'crash' : null) : stood ? 'idle' : 'crash';
        return {
          ...{ instant: facts.instant, kind, closedMs: facts.cloneMs },
          view: (reached) => this.#view(clone, facts, reached),
        };
      },
      release: () => this.release(),
    });
  }

  async #cut(clone: CloneFile): Promise<CutFacts> {
    const { path } = this.#settings;
    try {
      // What the freeze has flushed into the page cache.
      await this.#image.handle.datasync();
      const instant = new Date();
      const cloneMs = await native.cloneFile(this.#image.handle.fd, clone.handle.fd);
      return { instant, cloneMs };
    } catch (cause) {
      throw cloneError(path, cause);
    }
  }

  #view(clone: CloneFile, { instant, cloneMs }: CutFacts, kind: ConsistencyKind): Promise<Snapshot> {
    const { path, stateDirectory } = this.#settings;
    return onDevice(
      path,
      async () => {
        const record = await this.#record(clone);
        const device = await native.openDevice(clone.path, { direct: true });
        this.#device = device;
        const named = await stat(clone.path, { bigint: true });
        if (fileTimes(named) !== record.times) throw changedError(clone.path, 'was changed meanwhile');
        const tracking = await this.#tracking(clone, record, device);
        const extents = await native.countExtents(clone.handle.fd);
        const { fileSystem } = await native.cloneSupport(clone.handle.fd);
        const warning = fileSystem && stallWarning({ fileSystem, extentCount: extents, cloneMs });
        return {
          ...{ device, instant, kind, tracking },
          identity: await readDeviceIdentity(path, device.logicalSectorSize),
          warnings: warning === null ? [] : [`${path}: ${warning}`],
          lost: () => this.#whyLost(clone, record),
          conclude: async () => {
            const lost = await this.#whyLost(clone, record);
            if (lost !== null) throw lost;
            // From now on there may be a point of it.
            this.#isLeft = this.#options.commits !== false;
            const facts = { extents, cloneMs: Math.round(cloneMs * 10) / 10 };
            return { kind, warnings: [], facts: { ...facts, mapUsed: tracking.changes !== null } };
          },
          release: () => this.release(),
        };
      },
      { stateDirectory },
    );
  }

  /** On disk before its record is: what a crash leaves of a clone must not be believed. */
  async #record(clone: CloneFile): Promise<CloneRecord> {
    await clone.handle.sync();
    await syncDirectory(dirname(clone.path));
    const status = await clone.handle.stat({ bigint: true });
    const record: CloneRecord = {
      ...{ pointId: this.#options.sessionId, state: 'held', madeAtMs: Date.now() },
      ...{ path: clone.path, key: clone.key, imageKey: this.#image.key },
      ...{ sizeBytes: Number(status.size), times: fileTimes(status), alsoChanged: [] },
    };
    if (this.#options.commits !== false)
      await writeRecord(this.#settings.stateDirectory, clone.cloneId, record);
    return record;
  }

  async #tracking(clone: CloneFile, record: CloneRecord, device: Device): Promise<Tracking> {
    const kept = this.#keptClones();
    const { blockSize } = this.#options;
    const keep = async (pointId: string, alsoChanged: readonly BlockRange[]): Promise<void> => {
      await device.close();
      const status = await clone.handle.stat({ bigint: true });
      if (fileTimes(status) !== record.times) throw changedError(clone.path, 'was changed or removed');
      const content = { ...record, pointId, state: 'kept' as const, alsoChanged: [...alsoChanged] };
      await writeRecord(this.#settings.stateDirectory, clone.cloneId, content);
      this.#isLeft = true;
      await kept.removeAll();
    };
    return {
      ...(await this.#changes(clone, record.sizeBytes)),
      knows: (pointId) => kept.knows(pointId),
      committed: () => keep(this.#options.sessionId, []),
      adopt: async (pointId, ranges, complete) => {
        const bytes = ranges.map(
          ([start, end]): BlockRange => [
            start * blockSize,
            Math.min(end * blockSize, Math.max(record.sizeBytes, start * blockSize)),
          ],
        );
        if (complete) return keep(pointId, boundedRanges(bytes));
        await device.close();
        await kept.mark(pointId, boundedRanges([...kept.alsoChangedSince(pointId), ...bytes]));
      },
    };
  }

  async #changes(clone: CloneFile, sizeBytes: number): Promise<Pick<Tracking, 'changes' | 'reason'>> {
    const { base, reason } = this.#keptClones();
    const { blockSize, full } = this.#options;
    if (base === null) return { changes: null, reason };
    if (full) return { changes: null, reason: 'everything is to be read' };
    if (base.sizeBytes !== sizeBytes) return { changes: null, reason: 'its size has changed' };
    try {
      const fds = [base.clone.handle.fd, clone.handle.fd] as const;
      const { ranges: differing } = await native.differingBlocks(...fds, sizeBytes, blockSize);
      const also = base.alsoChanged.map(
        ([start, end]): BlockRange => [Math.floor(start / blockSize), Math.ceil(end / blockSize)],
      );
      const ranges = mergeRanges(
        [...differing, ...also].sort(([a], [b]) => a - b),
        [],
      );
      const { random = Math.random } = this.#settings;
      return { changes: withSample(ranges, randomBlocks(Math.ceil(sizeBytes / blockSize), random)), reason };
    } catch (error) {
      const why = `its extents could not be compared: ${whyRefused(error)}`;
      return { changes: null, reason: why };
    }
  }

  /** Removed meanwhile, it can be read on; changed, it is no instant. */
  async #whyLost(clone: CloneFile, record: CloneRecord): Promise<StillpointError | null> {
    const status = await clone.handle.stat({ bigint: true });
    const isSame =
      status.nlink === 0n
        ? record.times.startsWith(`${status.mtimeNs}:`)
        : fileTimes(status) === record.times && Number(status.size) === record.sizeBytes;
    if (isSame) return null;
    return new StillpointError('snapshot-lost', {
      thing: clone.path,
      reason: 'the clone was changed while it was read',
      remedy: 'Let nothing write to it, and back up again.',
      permanent: false,
    });
  }

  #keptClones(): KeptClones {
    if (this.#kept === null) throw new Error('it is not prepared');
    return this.#kept;
  }

  /** In any state, also a second time. */
  async release(): Promise<void> {
    const [clone, kept, device] = [this.#clone, this.#kept, this.#device];
    this.#clone = null;
    this.#kept = null;
    this.#device = null;
    try {
      await device?.close();
      if (clone !== null && this.#isLeft) await clone.handle.close();
      else if (clone !== null) {
        await removeClone(clone);
        await removeRecord(this.#settings.stateDirectory, clone.cloneId);
      }
    } finally {
      await kept?.close();
      await this.#image.handle.close();
      await this.#lock?.close();
    }
  }
}

const whyRefused = (error: unknown): string => {
  const errno = errnoNameOf(error);
  if (errno === 'EAGAIN') return 'the file system moves them at this moment';
  return errno === null ? (error as Error).message : tellErrno(errno, { thing: '', place: 'device' }).reason;
};

function cloneError(path: string, cause: unknown): StillpointError {
  const isFull = ['ENOSPC', 'EDQUOT'].includes(errnoNameOf(cause) ?? '');
  return new StillpointError('device-io', {
    ...{ thing: path, cause },
    reason: `it can't be cloned: ${whyRefused(cause)}`,
    remedy: isFull
      ? 'Make room on its file system.'
      : 'Stop what uses it and back it up with "--provider offline", or see the kernel log (dmesg).',
  });
}
