/**
 * The last point that the receiver acknowledged to this agent: the file `acknowledged` in the device's state
 * directory (device-state.ts). It outlives a lost or damaged tree. If it is lost itself, only one check is
 * lost.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { readSpareStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import type { AcknowledgedPoint } from '../../domain/point/acknowledged-point.js';
import { hexIdSchema } from '../../protocol/schemas/messages.js';

const format: StateFormat<AcknowledgedPoint> = {
  format: 'stillpoint-acknowledged',
  version: 1,
  schema: z.strictObject({ id: hexIdSchema, sequence: z.int().min(1), committedAt: z.iso.datetime() }),
};

const pathIn = (directory: string) => join(directory, 'acknowledged');

export function readAcknowledged(directory: string): Promise<AcknowledgedPoint | null> {
  return readSpareStateFile(pathIn(directory), format);
}

/** Durable when it resolves. */
export function writeAcknowledged(
  directory: string,
  { id, sequence, committedAt }: AcknowledgedPoint,
): Promise<void> {
  return writeStateFile(pathIn(directory), format, { id, sequence, committedAt });
}
