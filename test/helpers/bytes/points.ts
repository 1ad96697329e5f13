/** Points for pure tests. */
import type { Point } from '../../../src/domain/point/point.js';

export function makePoint(overrides: Partial<Point> = {}): Point {
  const sequence = overrides.sequence ?? 1;
  return {
    id: String(sequence).padStart(32, '0'),
    agent: 'local',
    device: 'disk1',
    sequence,
    baseSequence: sequence === 1 ? null : sequence - 1,
    geometry: { sizeBytes: 1024 * 1024, blockSize: 65_536 },
    identity: { type: 'image', path: '/images/disk1.img', logicalSectorSize: 512 },
    root: String(sequence).padStart(64, 'a'),
    top: String(sequence).padStart(64, 'b'),
    kind: 'idle',
    provider: 'offline',
    providerFacts: {},
    instant: `2026-01-${String(sequence).padStart(2, '0')}T12:00:00.000Z`,
    committedAt: `2026-01-${String(sequence).padStart(2, '0')}T12:05:00.000Z`,
    statistics: { scannedBytes: 0, changedBytes: 0, wireBytes: 0, durationMs: 0 },
    storedBytes: 0,
    badRanges: [],
    warnings: [],
    ...overrides,
  };
}
