/** One instant of one device, led as for a session, of which a test takes the instant itself. */
import { type InstantOptions, prepareAll, takeInstant } from '../../../src/capture/instant.js';
import type { HoldOptions } from '../../../src/capture/ports.js';
import type { ConsistencyKind } from '../../../src/domain/point/point.js';
import { FakeDisk } from '../fakes/provider.js';

export const HOLD: HoldOptions = {
  ...{ sessionId: '0'.repeat(32), basePointId: null, full: true, doubt: null, blockSize: 4096, fuzzy: false },
};

export interface QuiesceOptions extends InstantOptions {
  readonly device: string;
  readonly alsoSeenAs?: readonly string[];
}

export interface Quiesced<Result> {
  readonly result: Result;
  readonly kind: ConsistencyKind;
  readonly warnings: readonly string[];
}

export async function quiesce<Result>(
  options: QuiesceOptions,
  takeIt: () => Promise<Result>,
): Promise<Quiesced<Result>> {
  const { device, alsoSeenAs = [] } = options;
  const disk = new FakeDisk(device, { barrier: 'freeze', shownAt: [device, ...alsoSeenAs] });
  const results: Result[] = [];
  disk.before.cut = async () => void results.push(await takeIt());
  const members = await prepareAll([() => disk.prepare(HOLD)]);
  const [snapshot] = await takeInstant(members, options);
  if (snapshot === undefined) throw new Error('there is no snapshot');
  await snapshot.release();
  return { result: results[0] as Result, kind: snapshot.kind, warnings: snapshot.warnings };
}
