/** The addon: all parts of the border in one. It is loaded only here. */
import { createRequire } from 'node:module';
import type { BatchAddon } from './border/batch.js';
import type { NativeConstants } from './border/constants.js';
import type { DeviceAddon, PathAddon } from './border/device.js';
import type { DigestAddon } from './border/digest.js';
import type { JournalAddon } from './border/journal.js';
import type { LiveAddon } from './border/live.js';
import type { PackAddon } from './border/pack.js';
import type { PatchAddon } from './border/patch.js';
import type { ReflinkAddon } from './border/reflink.js';
import type { RestoreAddon } from './border/restore.js';
import type { ScanAddon } from './border/scan.js';
import type { TapAddon } from './border/tap.js';
import type { TrackAddon } from './border/track.js';
import type { TreeAddon } from './border/tree.js';
import { checkoutPath } from './checkout.js';

export interface Addon
  extends DigestAddon,
    DeviceAddon,
    TreeAddon,
    ScanAddon,
    BatchAddon,
    PatchAddon,
    PackAddon,
    ReflinkAddon,
    RestoreAddon,
    TapAddon,
    JournalAddon,
    TrackAddon,
    LiveAddon,
    PathAddon {
  readonly constants: NativeConstants;

  /**
   * Frees the memory of a Buffer that has all of its ArrayBuffer and that nobody reads any more, native work
   * included: it is empty afterwards. V8 collects garbage, all of it, whenever Buffers took some 32 MiB since
   * the last time; freed ones don't count.
   */
  freeBuffer(buffer: Uint8Array): void;
}

const require = createRequire(import.meta.url);

function load(): Addon {
  const path = checkoutPath('build/native/Release/stillpoint.node');
  try {
    return require(path) as Addon;
  } catch (cause) {
    throw new Error(`native addon ${path}: it can't be loaded. Build it with "npm run build:native".`, {
      cause,
    });
  }
}

export const native: Addon = load();
