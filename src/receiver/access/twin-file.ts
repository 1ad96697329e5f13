/**
 * A state file that is kept twice, `NAME.json` and `NAME-copy.json`: what a receiver can't do without. The
 * file is written first, then its copy; while both are whole, the file counts.
 */
import {
  readSpareStateFile,
  readStateFile,
  type StateFormat,
  writeStateFile,
} from '../../config/state-file.js';
import { isStillpointError } from '../../domain/base/errors.js';

export interface Twin<T> {
  /** Null: neither of the two is there. */
  readonly value: T | null;
  /** What is wrong with the file, while its copy is whole; null: nothing. */
  readonly fault: string | null;
  /** The copy is whole, and says the same. */
  readonly hasCopy: boolean;
}

export function copyPathOf(path: string): string {
  return path.replace(/\.json$/, '-copy.json');
}

export async function writeTwin<T>(path: string, format: StateFormat<T>, value: T): Promise<void> {
  await writeStateFile(path, format, value);
  await writeStateFile(copyPathOf(path), format, value);
}

/** @throws the fault of the file, if its copy does not help */
export async function readTwin<T>(path: string, format: StateFormat<T>): Promise<Twin<T>> {
  const copy = await readSpareStateFile(copyPathOf(path), format);
  let value: T | null;
  try {
    value = await readStateFile(path, format);
  } catch (error) {
    if (copy === null || isStillpointError(error, 'version')) throw error;
    return { value: copy, fault: error instanceof Error ? error.message : String(error), hasCopy: true };
  }
  if (value !== null) {
    return { value, fault: null, hasCopy: JSON.stringify(copy) === JSON.stringify(value) };
  }
  return { value: copy, fault: copy === null ? null : `${path}: it is gone.`, hasCopy: copy !== null };
}

/** Brings both to what counts. */
export async function mendTwin<T>(path: string, format: StateFormat<T>, twin: Twin<T>): Promise<void> {
  if (twin.value === null || (twin.fault === null && twin.hasCopy)) return;
  if (twin.fault === null) await writeStateFile(copyPathOf(path), format, twin.value);
  else await writeStateFile(path, format, twin.value);
}
