/** The settings that `tap add` makes for a tap, kept in its `tap.json`. */
import { z } from 'zod';
import type { StateFormat } from '../../config/state-file.js';

export interface TapSettings {
  readonly name: string;
  /** Absolute, as named; links in it are followed at each start. */
  readonly sourcePath: string;
  readonly exportName: string;
  /** `unix:PATH` or `tcp:HOST:PORT`, at least one. */
  readonly listen: readonly string[];
  /** Grain of the maps, in bytes. */
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Where original blocks go while a snapshot is held. */
  readonly preserveDirectory: string;
  readonly preserveMaxBytes: number;
  readonly whenFull: 'fail' | 'throttle';
  /** Null: writes are not written down. */
  readonly journal: {
    /** Of the spool. */
    readonly directory: string;
    readonly maxBytes: number;
  } | null;
  /** Make it a block device of this machine, /dev/nbdN, at each start. */
  readonly attach: boolean;
  /** Where its sockets are. */
  readonly runDirectory: string;
  /** ISO 8601. */
  readonly createdAt: string;
}

const path = z.string().max(4096).startsWith('/');

export const TAP_FORMAT: StateFormat<TapSettings> = {
  format: 'stillpoint tap',
  version: 1,
  schema: z.strictObject({
    name: z.string().max(64),
    sourcePath: path,
    exportName: z.string().max(4096),
    listen: z.array(z.string().max(4096)).min(1).max(16),
    blockSize: z.int().positive(),
    readOnly: z.boolean(),
    preserveDirectory: path,
    preserveMaxBytes: z.int().positive(),
    whenFull: z.enum(['fail', 'throttle']),
    // Files of taps from before there were journals lack it.
    journal: z.strictObject({ directory: path, maxBytes: z.int().positive() }).nullable().default(null),
    attach: z.boolean(),
    runDirectory: path,
    createdAt: z.string().max(64),
  }),
};
