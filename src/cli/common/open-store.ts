/**
 * Making and opening stores. Opening may take a while: a lost index is rebuilt from the packs. It reports its
 * progress.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { StoreSettings } from '../../receiver/server.js';
import { ownerText, type StoreOwner } from '../../store/disk/lock.js';
import {
  createStore,
  type OpenProgress,
  openStore,
  openStoreForReading,
  type StoreOptions,
} from '../../store/open.js';
import type { Store } from '../../store/port/store.js';
import type { StoreToRead } from '../../store/reading/reader-store.js';
import { looksLikeStore } from '../../store/reading/store-file.js';
import type { Output } from '../output/output.js';

const TELL_EVERY_MS = 5_000;
const KEPT_IF_UNKNOWN_MS = 365 * 24 * 60 * 60 * 1000;

/**
 * @throws StillpointError `usage` where the directory has other things in it: the path is probably mistyped
 */
export async function makeStoreIfMissing(directory: string): Promise<void> {
  if (!looksLikeStore(directory)) await createStore(directory);
}

/** To write to it. Where another command has it open, this one waits for its turn and says so. */
export async function openStoreInTurn(
  output: Output,
  directory: string,
  signal: AbortSignal,
): Promise<Store> {
  const onWait = (owner: StoreOwner) =>
    output.note(`${directory}: ${ownerText(owner)} has it open; this command waits until it has ended`);
  return openStore(directory, { ...(await telling(output, directory)), waiting: { onWait, signal } });
}

/** To read its points, whether or not a process has it open. */
export async function openStoreToRead(output: Output, directory: string): Promise<StoreToRead> {
  return openStoreForReading(directory, await telling(output, directory));
}

async function telling(output: Output, directory: string): Promise<StoreOptions> {
  return {
    ...(await keptFor(output, directory)),
    log: (message) => output.note(`${directory}: ${message}`),
    onProgress: atTimes(({ step, done, total }) => output.note(`${directory}: ${step}, ${done} of ${total}`)),
  };
}

/** Where a receiver was made of the store, its setting holds for every command. */
async function keptFor(output: Output, directory: string): Promise<{ keepPartialMs?: number }> {
  if (!existsSync(join(directory, 'receiver', 'receiver.json'))) return {};
  const { findSettings } = await import('../../receiver/access/identity.js');
  try {
    const keepPartialMs = (await findSettings(directory))?.keepPartialMs;
    return keepPartialMs === undefined ? {} : { keepPartialMs };
  } catch (error) {
    // The points do not need it.
    output.note(`${error instanceof Error ? error.message : String(error)} Unfinished backups are kept.`);
    return { keepPartialMs: KEPT_IF_UNKNOWN_MS };
  }
}

/** As `openStoreInTurn`, for a process that has a log. */
export function openStoreInTurnWithLog(directory: string, log: Logger, signal: AbortSignal): Promise<Store> {
  const onWait = (owner: StoreOwner) =>
    log.info({ store: directory, owner: ownerText(owner) }, 'another process has the store open; waiting');
  return openStore(directory, {
    log: (message) => log.warn({ store: directory }, message),
    onProgress: atTimes(({ step, done, total }) => log.info({ done, total }, step)),
    waiting: { onWait, signal },
  });
}

export function openStoreWithLog(directory: string, log: Logger, settings: StoreSettings): Promise<Store> {
  return openStore(directory, {
    ...settings,
    role: 'receiver',
    log: (message) => log.warn({ store: directory }, message),
    onProgress: atTimes(({ step, done, total }) => log.info({ done, total }, step)),
  });
}

/** The first, the last, and some between. */
function atTimes(tell: (progress: OpenProgress) => void): (progress: OpenProgress) => void {
  let toldMs = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const now = performance.now();
    if (progress.done < progress.total && now - toldMs < TELL_EVERY_MS) return;
    toldMs = now;
    tell(progress);
  };
}
