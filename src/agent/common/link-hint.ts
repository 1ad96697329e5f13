/**
 * How fast the link to a receiver was the last time, in `<state>/stores/<store>/.link.json`, so that the next
 * backup need not find it out from the start. It is only a hint: if anything is wrong with it, it is ignored.
 * No agent's directory has such a name.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { checkName } from '../../domain/base/names.js';
import type { LinkHint } from '../../domain/session/link-meter.js';

const format: StateFormat<LinkHint> = {
  format: 'stillpoint-link',
  version: 1,
  schema: z.strictObject({
    bytesPerSecond: z.number().positive(),
    roundTripMs: z.number().min(0).nullable(),
  }),
};

/** A smaller difference is not news, and not worth the wait for a disk. */
const NEWS_FACTOR = 2;

const pathOf = (stateDirectory: string, storeId: string) =>
  join(stateDirectory, 'stores', checkName('store', storeId), '.link.json');

export function readLinkHint(stateDirectory: string, storeId: string): Promise<LinkHint | null> {
  return readStateFile(pathOf(stateDirectory, storeId), format).catch(() => null);
}

/** @param before what was remembered. */
export async function keepLinkHint(
  stateDirectory: string,
  storeId: string,
  hint: LinkHint | null,
  before: LinkHint | null,
): Promise<void> {
  if (hint === null || (before !== null && isLike(hint, before))) return;
  await writeStateFile(pathOf(stateDirectory, storeId), format, hint).catch(() => undefined);
}

function isLike(hint: LinkHint, before: LinkHint): boolean {
  const ratio = hint.bytesPerSecond / before.bytesPerSecond;
  const slower = (hint.roundTripMs ?? 0) - (before.roundTripMs ?? 0);
  return ratio > 1 / NEWS_FACTOR && ratio < NEWS_FACTOR && Math.abs(slower) < (before.roundTripMs ?? 0) + 10;
}
