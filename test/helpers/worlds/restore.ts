/** A point in memory, and a directory in which it can be restored to what there is. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type RestoreOptions, type RestoreResult, runRestore } from '../../../src/agent/restore/restore.js';
import { temporaryDirectory } from '../disks/loop-device.js';
import { type PointReceiver, type PointReceiverOptions, pointReceiver } from '../fakes/point-receiver.js';

const BLOCK = 65_536;

export interface RestoreWorld extends PointReceiver {
  readonly directory: string;
  readonly stateDirectory: string;
  /** Of all restores until now. */
  readonly told: { readonly notices: string[]; readonly warnings: string[] };
  at(name: string): string;
  restore(target: string, options?: Partial<RestoreOptions>): Promise<RestoreResult>;
}

export async function restoreWorld(
  t: ExecutionContext,
  options: Partial<PointReceiverOptions> = {},
): Promise<RestoreWorld> {
  const directory = await temporaryDirectory(t, 'target');
  const at = (name: string) => join(directory, name);
  await mkdir(at('receiver'));
  const made = await pointReceiver(at('receiver'), {
    geometry: { sizeBytes: 40 * BLOCK, blockSize: BLOCK },
    blockIndexes: [0, 1, 2, 7, 20, 39],
    ...options,
  });
  t.teardown(() => made.close());
  const stateDirectory = at('state');
  await mkdir(stateDirectory);
  const told = { notices: [] as string[], warnings: [] as string[] };
  const restore = (target: string, overrides: Partial<RestoreOptions> = {}) =>
    runRestore({
      ...{ receiver: made.receiver, point: made.point, target, stateDirectory },
      onEvent: (event) => {
        if (event.type === 'notice') told.notices.push(event.text);
        if (event.type === 'warning') told.warnings.push(event.text);
      },
      ...overrides,
    });
  return { ...made, directory, stateDirectory, told, at, restore };
}
