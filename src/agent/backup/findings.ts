/**
 * What the attempts of a backup find out, for those that follow: why a session ended without a point, and
 * whether another one can do better.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { whyPointsAreMissing, whyRemoved } from '../../domain/point/acknowledged-point.js';
import type { Point } from '../../domain/point/point.js';
import type { Backup, Findings } from './context.js';

/** What is known of changes is not believed: another session reads everything. The message is a clause. */
export class ChangesDoubted extends Error {
  override readonly name = 'ChangesDoubted';
}

/**
 * The session of an earlier process can't be gone on with: another one begins, and what had
 * arrived is not sent again. The message is a clause.
 */
export class ResumeDoubted extends Error {
  override readonly name = 'ResumeDoubted';
}

/** Of one backup. Each reason to begin anew goes once. */
export class FoundOut {
  readonly #backup: Backup;
  #findings: Findings;
  #hasResumed = false;

  private constructor(backup: Backup, findings: Findings) {
    this.#backup = backup;
    this.#findings = findings;
  }

  /** @throws StillpointError `store-changed` */
  static async begin(backup: Backup): Promise<FoundOut> {
    const last = await lastPoint(backup);
    const accepted = await checkAcknowledged(backup, last);
    const sendsWholeBlocks = backup.options.patch === 'never';
    return new FoundOut(backup, { last, accepted, doubt: null, sendsWholeBlocks });
  }

  /** For the next attempt. */
  get findings(): Findings {
    return this.#findings;
  }

  /** @param error of an attempt. @throws it, or what it means, if another one can't do better */
  async learn(error: unknown): Promise<void> {
    const { options, onEvent } = this.#backup;
    const known = this.#findings;
    if (error instanceof ChangesDoubted && known.doubt === null)
      this.#findings = { ...known, doubt: error.message };
    else if (error instanceof ChangesDoubted) throw notTracked(options.path, error);
    else if (isStillpointError(error, 'bad-patch') && !known.sendsWholeBlocks) {
      this.#findings = { ...known, sendsWholeBlocks: true };
      onEvent({ type: 'notice', text: `${error.message} A new session sends whole blocks.` });
    } else if (error instanceof ResumeDoubted && !this.#hasResumed) {
      this.#hasResumed = true;
      onEvent({ type: 'notice', text: `a new session begins: ${error.message}` });
      // It may have been committed meanwhile.
      this.#findings = { ...known, last: await lastPoint(this.#backup) };
    } else throw error;
  }
}

async function lastPoint({ options, receiver }: Backup): Promise<Point | null> {
  return (await receiver.points(options.device, { last: true })).at(-1) ?? null;
}

/** Everything was read, and yet what was written meanwhile was not all seen. */
function notTracked(path: string, doubted: ChangesDoubted): StillpointError {
  return new StillpointError('device-changed', {
    thing: path,
    reason: `what is known of the changes to it can't be relied on: ${doubted.message}`,
    remedy: 'Back it up while nobody writes to it, or with another provider.',
    permanent: false,
    cause: doubted,
  });
}

/** @returns what is accepted, for the point. @throws StillpointError `store-changed` */
async function checkAcknowledged(
  { options, state, receiver, onEvent }: Backup,
  last: Point | null,
): Promise<string[]> {
  const { path, device, acceptStore = false } = options;
  const { tree, pending } = state.local;
  const ownIds = [tree?.pointId, pending?.pointId];
  const acknowledged = await state.acknowledged();
  const missing = whyPointsAreMissing(device, acknowledged, last, ownIds);
  if (missing === null || acknowledged === null) return [];
  // A receiver of a former version can't say.
  const { removed } = await receiver
    .removedPoint(device, acknowledged.sequence)
    .catch(() => ({ removed: null }));
  const onPurpose = whyRemoved(acknowledged, last, removed);
  if (onPurpose !== null) {
    onEvent({ type: 'notice', text: onPurpose });
    return [];
  }
  if (acceptStore) return [`the store has lost points, which was accepted: ${missing}`];
  throw new StillpointError('store-changed', {
    thing: `device ${device}`,
    reason: missing,
    remedy: `If an older copy of the store was restored, continue with "stillpoint backup ${path} --name ${device} --accept-store". Otherwise find the missing points first.`,
  });
}
