/**
 * The receivers that this machine is enrolled with, in `<state>/enrolments/`:
 *
 *   <receiver id>/enrolment.json   key, certificate, the receiver's CA and URL, in one
 *                                  file: replaced all at once
 *   <receiver id>/renewal.*        the next key, while it is asked for (renewal.ts)
 *   default.json                   which of them is meant where none is named; the first
 *                                  one, until told otherwise
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { makeDirectory, readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { isHexId } from '../../domain/base/names.js';
import { type Enrolment, receiverOrigin } from '../../protocol/certificates/enrolment.js';
import { hexIdSchema } from '../../protocol/schemas/messages.js';

const enrolmentFormat: StateFormat<Enrolment> = {
  format: 'stillpoint-enrolment',
  version: 1,
  schema: z.strictObject({
    receiverId: hexIdSchema,
    url: z.string(),
    agent: z.string(),
    authority: z.string(),
    key: z.string(),
    certificate: z.string(),
  }),
};

const defaultFormat: StateFormat<{ receiverId: string }> = {
  format: 'stillpoint-default-receiver',
  version: 1,
  schema: z.strictObject({ receiverId: hexIdSchema }),
};

const enrolmentsPath = (stateDirectory: string) => join(stateDirectory, 'enrolments');
const defaultPath = (stateDirectory: string) => join(enrolmentsPath(stateDirectory), 'default.json');
export const enrolmentDirectory = (stateDirectory: string, receiverId: string) =>
  join(enrolmentsPath(stateDirectory), receiverId);
const enrolmentPath = (stateDirectory: string, receiverId: string) =>
  join(enrolmentDirectory(stateDirectory, receiverId), 'enrolment.json');

/** Keeps it, in place of an earlier one with the same receiver. @returns whether it is the default */
export async function saveEnrolment(
  stateDirectory: string,
  enrolment: Enrolment,
  options: { readonly makeDefault?: boolean } = {},
): Promise<boolean> {
  const { receiverId } = enrolment;
  await makeDirectory(join(enrolmentsPath(stateDirectory), receiverId));
  await writeStateFile(enrolmentPath(stateDirectory, receiverId), enrolmentFormat, enrolment);
  const present = await readStateFile(defaultPath(stateDirectory), defaultFormat);
  const isDefault = present === null || present.receiverId === receiverId || options.makeDefault === true;
  if (isDefault) await writeStateFile(defaultPath(stateDirectory), defaultFormat, { receiverId });
  return isDefault;
}

export function readEnrolment(stateDirectory: string, receiverId: string): Promise<Enrolment | null> {
  return readStateFile(enrolmentPath(stateDirectory, receiverId), enrolmentFormat);
}

/** By receiver id. */
export async function listEnrolments(stateDirectory: string): Promise<Enrolment[]> {
  const names = await readdir(enrolmentsPath(stateDirectory)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const enrolments: Enrolment[] = [];
  for (const receiverId of names.filter(isHexId).sort()) {
    const enrolment = await readStateFile(enrolmentPath(stateDirectory, receiverId), enrolmentFormat);
    if (enrolment !== null) enrolments.push(enrolment);
  }
  return enrolments;
}

/**
 * The enrolment with the receiver of this URL, or the default one.
 * @throws StillpointError `not-enrolled`, `usage`
 */
export async function findEnrolment(stateDirectory: string, url?: string): Promise<Enrolment> {
  const enrolments = await listEnrolments(stateDirectory);
  if (url !== undefined) {
    const origin = receiverOrigin(url);
    const named = enrolments.find((enrolment) => enrolment.url === origin);
    if (named !== undefined) return named;
    throw notEnrolled(origin, 'this machine is not enrolled with the receiver at this URL');
  }
  const chosen = await readStateFile(defaultPath(stateDirectory), defaultFormat);
  const found = enrolments.find((enrolment) => enrolment.receiverId === chosen?.receiverId);
  if (found !== undefined) return found;
  throw notEnrolled('this machine', 'it is not enrolled with any receiver');
}

function notEnrolled(thing: string, reason: string): StillpointError {
  return new StillpointError('not-enrolled', {
    thing,
    reason,
    remedy:
      'Run "stillpoint enroll URL CODE" with a code from that receiver, or name a directory with --store.',
  });
}
