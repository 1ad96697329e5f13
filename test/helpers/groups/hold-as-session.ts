/** A device of several, as its session takes it: passes until the instant. */
import type { GroupInstant } from '../../../src/capture/group/group-instant.js';
import type { Snapshot } from '../../../src/capture/ports.js';
import type { FakeDisk } from '../fakes/provider.js';
import { HOLD } from '../worlds/quiesce.js';

/** A failure is told, as the leader of the sessions does. */
export async function holdAsSession(
  instant: GroupInstant,
  disk: FakeDisk,
  signal: AbortSignal | undefined,
): Promise<Snapshot> {
  const prepare = disk.prepare.bind(disk);
  const provider = instant.snapshotProviderOf(disk.name, { name: 'fake', prepare });
  const snapshot = await provider.hold(disk.name, { ...HOLD, signal });
  const { passes } = snapshot;
  if (passes === undefined) return snapshot;
  try {
    for (;;) {
      while ((await passes.next()) !== null);
      if ((await passes.take()) !== null) return snapshot;
    }
  } catch (error) {
    await snapshot.release();
    instant.leave(disk.name, error);
    throw error;
  }
}
