/** Registered taps of images in directories of the test's own. */
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { addTap, type RegisteredTap } from '../../../src/tap/registry/registry.js';
import type { TapSettings } from '../../../src/tap/registry/settings.js';
import { temporaryDirectory } from '../disks/loop-device.js';

export const SILENT = pino({ level: 'silent' });

export interface TapPlace {
  /** Also the state directory. */
  readonly directory: string;
  readonly image: string;
}

export async function makeTapPlace(t: ExecutionContext): Promise<TapPlace> {
  const directory = await temporaryDirectory(t, 'tap');
  const image = join(directory, 'disk.img');
  await writeFile(image, Buffer.alloc(1024 * 1024, 'tap'));
  return { directory, image };
}

export function settingsFor(place: TapPlace, changes: Partial<TapSettings> = {}): TapSettings {
  const name = changes.name ?? 'disk';
  const runDirectory = join(place.directory, 'run', name);
  return {
    name,
    sourcePath: place.image,
    exportName: name,
    listen: [`unix:${join(runDirectory, 'nbd.sock')}`],
    blockSize: 65_536,
    readOnly: false,
    preserveDirectory: join(place.directory, 'taps', name, 'preserve'),
    preserveMaxBytes: 1024 ** 3,
    whenFull: 'fail',
    journal: null,
    attach: false,
    runDirectory,
    createdAt: '2026-03-01T12:00:00.000Z',
    ...changes,
  };
}

export async function makeTap(
  t: ExecutionContext,
  changes: Partial<TapSettings> = {},
): Promise<{ readonly place: TapPlace; readonly tap: RegisteredTap }> {
  const place = await makeTapPlace(t);
  return { place, tap: await addTap(place.directory, settingsFor(place, changes)) };
}

/** Somebody answers there, as the control socket of a tap that runs; more than that can't be asked. */
export async function answerOn(t: ExecutionContext, controlPath: string): Promise<void> {
  await mkdir(dirname(controlPath), { recursive: true });
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(controlPath, resolve));
  t.teardown(() => void server.close());
}
