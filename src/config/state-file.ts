/**
 * The file form of state that a machine must be able to believe at its next start: identity, invites,
 * enrolled agents, enrolments, taps. JSON `{"format", "version", "checksum", "content"}`; the checksum is
 * SHA-256 over `format/version/` and the content's JSON text. It is written as a whole: temporary file,
 * fsync, rename, fsync of the directory. Only its owner can read it.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { isStillpointError, StillpointError } from '../domain/base/errors.js';
import { makeDirectories, replaceFile, syncDirectory } from '../native/files.js';

export interface StateFormat<T> {
  readonly format: string;
  readonly version: number;
  readonly schema: z.ZodType<T>;
  /** Versions before this one, which are read and turned into it; never written. */
  readonly former?: Readonly<Record<number, z.ZodType<T>>>;
}

export const STATE_CHARS_MAX = 256 * 1024;

const envelope = z.strictObject({
  format: z.string(),
  version: z.int(),
  checksum: z.string(),
  content: z.string(),
});

function checksum(format: string, version: number, content: string): string {
  return createHash('sha256').update(`${format}/${version}/`).update(content).digest('hex');
}

export async function writeStateFile<T>(path: string, format: StateFormat<T>, value: T): Promise<void> {
  const content = JSON.stringify(value);
  const text = JSON.stringify({
    format: format.format,
    version: format.version,
    checksum: checksum(format.format, format.version, content),
    content,
  });
  await replaceFile(path, `${text}\n`, 0o600);
}

/**
 * Null if there is no such file.
 * @throws StillpointError `config` if it is damaged; `version` if another program wrote it, whatever is in it
 */
export async function readStateFile<T>(path: string, format: StateFormat<T>): Promise<T | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const damaged = (reason: string) =>
    new StillpointError('config', {
      thing: path,
      reason,
      remedy: 'Restore the file from a copy, or remove it and set up again.',
    });
  if (text.length > STATE_CHARS_MAX) throw damaged('it is too large');
  const outer = envelope.safeParse(parseJson(text));
  if (!outer.success || outer.data.format !== format.format) throw damaged(`it is not a ${format.format}`);
  const { version, content } = outer.data;
  const isOf = (number: number) => outer.data.checksum === checksum(format.format, number, content);
  const schema = version === format.version ? format.schema : format.former?.[version];
  // A bit of the number flipped, if the checksum is right with the true one.
  if (schema === undefined && (version < format.version || isOf(format.version)))
    throw damaged('its version is damaged');
  if (schema === undefined) {
    throw new StillpointError('version', {
      thing: path,
      reason: `it has version ${version} of the format ${format.format}, and this program knows ${format.version}`,
      remedy:
        'A newer program wrote it: install that version again, or a newer one. This program leaves the file as it is.',
    });
  }
  if (outer.data.checksum !== checksum(format.format, version, outer.data.content)) {
    throw damaged('its checksum is wrong');
  }
  const inner = schema.safeParse(parseJson(outer.data.content));
  if (!inner.success) throw damaged(`its content is not that of a ${format.format}`);
  return inner.data;
}

/**
 * For files that can be done without: null also if it is damaged. But not if a newer program wrote it: then
 * what it says still holds, and this program must not write over it.
 * @throws StillpointError `version`
 */
export async function readSpareStateFile<T>(path: string, format: StateFormat<T>): Promise<T | null> {
  try {
    return await readStateFile(path, format);
  } catch (error) {
    if (isStillpointError(error, 'version')) throw error;
    return null;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Makes the directory and its missing parents durably. */
export async function makeDirectory(path: string): Promise<void> {
  const last = resolve(path);
  const first = await makeDirectories(last);
  if (first === undefined) return;
  for (let made = last; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
}
