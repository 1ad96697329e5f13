/** Requests of an agent as a test needs them: complete, and different in one thing. */
import type { BeginRequest, CommitRequest } from '../../../src/domain/session/messages.js';
import { levelTree } from './level-tree.js';

export const GEOMETRY = { sizeBytes: 1024 * 1024, blockSize: 65_536 } as const;

/** Of a device without content. */
export const EMPTY_ROOT = levelTree(GEOMETRY, new Map()).root;

export function sessionId(number: number): string {
  return number.toString(16).padStart(32, '0');
}

export function beginRequest(changes: Partial<BeginRequest> = {}): BeginRequest {
  return {
    device: 'disk',
    identity: { type: 'image', path: '/images/disk.img', inode: '8:1/42', logicalSectorSize: 512 },
    geometry: GEOMETRY,
    base: null,
    sessionId: sessionId(1),
    acceptIdentity: false,
    newChain: false,
    ...changes,
  };
}

export function commitRequest(changes: Partial<CommitRequest> = {}): CommitRequest {
  return {
    root: EMPTY_ROOT,
    batchCount: 0,
    statistics: { scannedBytes: 0, changedBytes: 0, wireBytes: 0, durationMs: 0 },
    badRanges: [],
    warnings: [],
    kind: 'crash',
    provider: 'offline',
    providerFacts: {},
    instant: '2026-01-01T00:00:00.000Z',
    ...changes,
  };
}
