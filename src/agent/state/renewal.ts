/**
 * An agent's next certificate, in time and by itself: `<state>/enrolments/<receiver id>/`.
 *
 * | step                                          | if the machine dies after it                            |
 * |-----------------------------------------------|---------------------------------------------------------|
 * | a new key and its request, in renewal.json    | the same key is asked about again                       |
 * | the receiver has made the certificate         | the same request gets the same certificate              |
 * | enrolment.json has both, all at once          | renewal.json is removed at the next renewal             |
 * | renewal.json is removed                       |                                                         |
 *
 * The receiver believes the present and the new certificate until the new one is shown, and the former one
 * for a while after that. So programs that run go on with what they have.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readSpareStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { lockFile, syncDirectory } from '../../native/files.js';
import type { Enrolment } from '../../protocol/certificates/enrolment.js';
import type { RenewAnswer, RenewRequest } from '../../protocol/schemas/messages.js';
import { enrolmentDirectory, readEnrolment, saveEnrolment } from './enrolment.js';

interface Pending {
  readonly key: string;
  readonly csr: string;
}

const pendingFormat: StateFormat<Pending> = {
  format: 'stillpoint-renewal',
  version: 1,
  schema: z.strictObject({ key: z.string(), csr: z.string() }),
};

export interface RenewOptions {
  readonly stateDirectory: string;
  readonly enrolment: Enrolment;
  readonly renew: (request: RenewRequest) => Promise<RenewAnswer>;
  readonly now: Date;
}

/** Half of its time is over. */
export function isRenewalDue({ certificate }: Enrolment, now: Date): boolean {
  const { validFrom, validTo } = new X509Certificate(certificate);
  return now.getTime() > (Date.parse(validFrom) + Date.parse(validTo)) / 2;
}

/**
 * Renews the certificate if that is due. Another process may have done so, or may be doing so.
 * @returns what is to be used from now on; null: nothing new
 */
export async function renewIfDue(options: RenewOptions): Promise<Enrolment | null> {
  const { stateDirectory, enrolment, now } = options;
  if (!isRenewalDue(enrolment, now)) return null;
  const directory = enrolmentDirectory(stateDirectory, enrolment.receiverId);
  const lock = await lockFile(join(directory, 'renewal.lock'));
  if (lock === null) return null;
  try {
    const present = await readEnrolment(stateDirectory, enrolment.receiverId);
    if (present === null) return null;
    if (!isRenewalDue(present, now)) return present;
    return await renewNow(options, present, join(directory, 'renewal.json'));
  } finally {
    await lock.close();
  }
}

async function renewNow(
  { stateDirectory, renew }: RenewOptions,
  present: Enrolment,
  pendingPath: string,
): Promise<Enrolment> {
  const { key, csr } = await pendingRequest(pendingPath);
  const { certificate, authority } = await renew({ csr });
  checkAnswer(present, key, certificate, authority);
  const renewed = { ...present, authority, key, certificate };
  await saveEnrolment(stateDirectory, renewed);
  await rm(pendingPath, { force: true });
  // A name that has changed is taken over with the directories that have it, by takeName.
  return renewed;
}

/** The key that was made before, or a new one. @throws StillpointError `version` */
export async function pendingRequest(path: string): Promise<Pending> {
  const pending = await readSpareStateFile(path, pendingFormat);
  if (pending !== null) return pending;
  const { createRequest } = await import('../../protocol/certificates/certificates.js');
  const made = await createRequest();
  await writeStateFile(path, pendingFormat, made);
  return made;
}

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** A wrong answer must not cost the certificate that works. */
function checkAnswer(present: Enrolment, key: string, certificate: string, authority: string): void {
  const refuse = (reason: string): never => {
    throw new StillpointError('bad-message', { thing: "receiver's answer to a renewal", reason });
  };
  const parse = (pem: string): X509Certificate => {
    try {
      return new X509Certificate(pem);
    } catch {
      return refuse('it has something that is not a certificate');
    }
  };
  const made = parse(certificate);
  if (!made.checkPrivateKey(createPrivateKey(key))) refuse('its certificate is for another key');
  const known = (present.authority.match(PEM) ?? []).map((pem) => parse(pem).fingerprint256);
  const announced = (authority.match(PEM) ?? []).map(parse);
  if (!announced.some(({ fingerprint256 }) => known.includes(fingerprint256)))
    refuse('it names none of the authorities that this machine believes');
  if (!announced.some((issuer) => made.checkIssued(issuer) && made.verify(issuer.publicKey)))
    refuse('its certificate is of no authority that it names');
}

/**
 * The receiver knows this agent by another name now: what the machine keeps under the former one goes on
 * under it. May be done again. Nothing is moved while a command uses it; without it, a backup reads
 * everything.
 */
export async function takeName(
  stateDirectory: string,
  enrolment: Enrolment,
  { storeId, agent }: { readonly storeId: string; readonly agent: string },
): Promise<void> {
  const store = join(stateDirectory, 'stores', storeId);
  const [from, to] = [join(store, enrolment.agent), join(store, agent)];
  const locks = [];
  try {
    for (const device of await readdir(from).catch(() => [])) {
      const lock = await lockFile(join(from, device, 'lock'));
      if (lock === null) return;
      locks.push(lock);
    }
    try {
      await rename(from, to);
      await syncDirectory(store);
    } catch (error) {
      // Not there: nothing is kept, or it was moved before. There is one of the new name: that one counts.
      const { code = '' } = error as NodeJS.ErrnoException;
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(code)) throw error;
    }
    const present = await readEnrolment(stateDirectory, enrolment.receiverId);
    if (present !== null) await saveEnrolment(stateDirectory, { ...present, agent });
  } finally {
    for (const lock of locks) await lock.close();
  }
}
