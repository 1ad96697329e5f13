/**
 * The session that an agent continues if it was killed: the file `session` in the device's state directory
 * (device-state.ts). It is believed only if the snapshot's mark of continuity is the same: then the static
 * view is still that of the session's instant, and no point mixes two.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Snapshot } from '../../capture/ports.js';
import { readSpareStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { CONSISTENCY_KINDS, type ConsistencyKind } from '../../domain/point/point.js';

export interface KeptSession {
  readonly sessionId: string;
  readonly instant: string;
  readonly kind: ConsistencyKind;
  readonly provider: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly continuity: string;
  /** The last point when it began. */
  readonly lastPointId: string | null;
  /** Says which blocks it leaves out; empty or missing: none. */
  readonly leftOut?: string;
}

const CONTINUITY_CHARS_MAX = 1024;

const format: StateFormat<KeptSession> = {
  format: 'stillpoint session',
  version: 1,
  schema: z.strictObject({
    sessionId: z.string().regex(/^[0-9a-f]{32}$/),
    instant: z.iso.datetime(),
    kind: z.enum(CONSISTENCY_KINDS),
    provider: z.string(),
    sizeBytes: z.number(),
    blockSize: z.number(),
    continuity: z.string().max(CONTINUITY_CHARS_MAX),
    lastPointId: z.string().nullable(),
    leftOut: z.string().max(64).exactOptional(),
  }),
};

const pathIn = (directory: string) => join(directory, 'session');

/** Durable when it resolves. */
export function writeKeptSession(directory: string, session: KeptSession): Promise<void> {
  return writeStateFile(pathIn(directory), format, session);
}

/** One that is damaged is none: a new session begins, and no more is lost. */
export function readKeptSession(directory: string): Promise<KeptSession | null> {
  return readSpareStateFile(pathIn(directory), format);
}

/** Not synced: if it comes back, the receiver says that the session has ended. */
export function removeKeptSession(directory: string): Promise<void> {
  return rm(pathIn(directory), { force: true });
}

/** What a session over the snapshot would be kept as; null where its view ends with the process. */
export function describeSession(
  snapshot: Snapshot,
  facts: Pick<KeptSession, 'sessionId' | 'instant' | 'provider' | 'blockSize' | 'lastPointId' | 'leftOut'>,
): KeptSession | null {
  const { continuity, kind, device } = snapshot;
  if (continuity === undefined || continuity.length > CONTINUITY_CHARS_MAX) return null;
  return { ...facts, kind, sizeBytes: device.sizeBytes, continuity };
}

/** The kept session is one of the same view, base and geometry as the one that would begin now. */
export function isSameView(kept: KeptSession, now: KeptSession): boolean {
  return (
    kept.continuity === now.continuity &&
    kept.kind === now.kind &&
    kept.provider === now.provider &&
    kept.sizeBytes === now.sizeBytes &&
    kept.blockSize === now.blockSize &&
    kept.lastPointId === now.lastPointId &&
    (kept.leftOut ?? '') === (now.leftOut ?? '')
  );
}
