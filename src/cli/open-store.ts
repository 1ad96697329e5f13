/** Making and opening stores. Opening may take a while: an index that was lost is made anew from the packs. That is told as it goes on. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { StoreSettings } from '../receiver/server.js';
import { STORE_FILE } from '../store/layout.js';
import { createStore, type OpenProgress, openStore } from '../store/store.js';
import type { Store } from '../store/store-port.js';
import type { Output } from './output.js';

const TELL_EVERY_MS = 5_000;

/** @throws StillpointError `usage` where the directory has other things in it: the path is probably mistyped */
export async function makeStoreIfMissing(directory: string): Promise<void> {
  if (!existsSync(join(directory, STORE_FILE))) await createStore(directory);
}

export async function openStoreWithProgress(output: Output, directory: string): Promise<Store> {
  return openStore(directory, {
    ...(await keptFor(directory)),
    log: (message) => output.note(`${directory}: ${message}`),
    onProgress: atTimes(({ step, done, total }) => output.note(`${directory}: ${step}, ${done} of ${total}`)),
  });
}

/** Where a receiver was made of the store, its setting holds for every command. */
async function keptFor(directory: string): Promise<{ keepPartialMs?: number }> {
  if (!existsSync(join(directory, 'receiver', 'receiver.json'))) return {};
  const { findSettings } = await import('../receiver/identity.js');
  const keepPartialMs = (await findSettings(directory))?.keepPartialMs;
  return keepPartialMs === undefined ? {} : { keepPartialMs };
}

export function openStoreWithLog(directory: string, log: Logger, settings: StoreSettings): Promise<Store> {
  return openStore(directory, {
    ...settings,
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
