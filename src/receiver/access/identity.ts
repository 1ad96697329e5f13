/**
 * Who a receiver is: what `receiver init DIR` makes under DIR/receiver/, beside the store.
 *
 *   receiver.json    id, where it listens, the URL that agents are told, how long partial sets are kept;
 *                    written last: the commit point of init
 *   authority.json   CA key and certificate; agents pin its fingerprint
 *   authority-next.json, authority-former.json
 *                    around the time when the authority is replaced
 *   server.json      key and certificate that TLS shows; made anew when half of its time is over
 *   *-copy.json      receiver.json and authority.json once more (twin-file.ts)
 *   invites/  agents/  see tenants.ts
 */
import { randomBytes, X509Certificate } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { z } from 'zod';
import {
  makeDirectory,
  readSpareStateFile,
  readStateFile,
  type StateFormat,
  writeStateFile,
} from '../../config/state-file.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { PARTIAL_KEEP_MS_MIN, SCRUB_PERIOD_MS_MIN } from '../../domain/base/limits.js';
import { syncDirectory } from '../../native/files.js';
import { checkCertificate } from '../../protocol/certificates/certificate-identity.js';
import {
  createAuthority,
  createServerCertificate,
  isNearItsEnd,
  type KeyAndCertificate,
} from '../../protocol/certificates/certificates.js';
import { hexIdSchema } from '../../protocol/schemas/messages.js';
import { copyPathOf, mendTwin, readTwin, writeTwin } from './twin-file.js';

export const LISTEN_DEFAULT = '0.0.0.0:8440';

export interface ListenAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

export interface ReceiverSettings {
  /** 32 hex digits. */
  readonly id: string;
  /** `HOST:PORT`. */
  readonly listen: string;
  /** What `receiver invite` tells agents to connect to. */
  readonly url: string;
  /** How long partial sets are kept. Default: PARTIAL_KEEP_MS. */
  readonly keepPartialMs?: number;
  /** All is read back within it; 0: not by schedule. Default: SCRUB_PERIOD_MS. */
  readonly scrubPeriodMs?: number;
}

export interface ReceiverIdentity {
  readonly settings: ReceiverSettings;
  /** That makes certificates. */
  readonly authority: KeyAndCertificate;
  /** PEM: those whose certificates are believed. */
  readonly trusted: readonly string[];
  /** PEM: those that agents believe from their next renewal on. */
  readonly announced: readonly string[];
  readonly server: KeyAndCertificate;
}

export const settingsFormat: StateFormat<ReceiverSettings> = {
  format: 'stillpoint-receiver',
  version: 1,
  schema: z.strictObject({
    id: hexIdSchema,
    listen: z.string().max(300),
    url: z.string().max(2000),
    keepPartialMs: z.int().min(PARTIAL_KEEP_MS_MIN).exactOptional(),
    scrubPeriodMs: z.union([z.literal(0), z.int().min(SCRUB_PERIOD_MS_MIN)]).exactOptional(),
  }),
};

export const keyFormat: StateFormat<KeyAndCertificate> = {
  format: 'stillpoint-key-and-certificate',
  version: 1,
  schema: z.strictObject({ key: z.string(), certificate: z.string() }),
};

export function receiverDirectory(dir: string): string {
  return join(dir, 'receiver');
}

export const settingsPath = (dir: string) => join(receiverDirectory(dir), 'receiver.json');
export const authorityPath = (dir: string) => join(receiverDirectory(dir), 'authority.json');
const nextPath = (dir: string) => join(receiverDirectory(dir), 'authority-next.json');
const formerPath = (dir: string) => join(receiverDirectory(dir), 'authority-former.json');
const serverPath = (dir: string) => join(receiverDirectory(dir), 'server.json');

export interface InitOptions {
  readonly listen?: string;
  readonly url?: string;
  readonly keepPartialMs?: number;
  readonly scrubPeriodMs?: number;
  readonly now?: Date;
  /** What is there can't be read. */
  readonly replacesSettings?: boolean;
}

/**
 * Makes the identity, or changes the other settings of the one that is there. An authority that is there
 * stays: its settings may have been lost.
 */
export async function initReceiver(dir: string, options: InitOptions = {}): Promise<ReceiverSettings> {
  const now = options.now ?? new Date();
  const existing = options.replacesSettings === true ? null : await findSettings(dir);
  const listen = options.listen ?? existing?.listen ?? LISTEN_DEFAULT;
  const { port } = parseListen(listen);
  const url = checkUrl(options.url ?? existing?.url ?? `https://${hostname()}:${port}`);
  const known = existing?.id ?? receiverIdOf(await findAuthority(dir));
  const id = known ?? randomBytes(16).toString('hex');
  if (known === null) await makeIdentity(dir, id, now);
  const keepPartialMs = options.keepPartialMs ?? existing?.keepPartialMs;
  const scrubPeriodMs = options.scrubPeriodMs ?? existing?.scrubPeriodMs;
  const settings = {
    ...{ id, listen, url },
    ...(keepPartialMs === undefined ? {} : { keepPartialMs }),
    ...(scrubPeriodMs === undefined ? {} : { scrubPeriodMs }),
  };
  await writeTwin(settingsPath(dir), settingsFormat, settings);
  return settings;
}

export async function makeIdentity(dir: string, id: string, now: Date): Promise<void> {
  await makeDirectory(receiverDirectory(dir));
  const authority = await createAuthority(id, now);
  await writeTwin(authorityPath(dir), keyFormat, authority);
  await writeStateFile(serverPath(dir), keyFormat, await createServerCertificate(authority, id, now));
}

/** Null if DIR is a store without a receiver's identity. */
export async function findSettings(dir: string): Promise<ReceiverSettings | null> {
  return (await readTwin(settingsPath(dir), settingsFormat)).value;
}

/** @throws StillpointError `store-missing` if DIR was not initialized */
export async function readSettings(dir: string): Promise<ReceiverSettings> {
  return present(await findSettings(dir), dir);
}

async function findAuthority(dir: string): Promise<KeyAndCertificate | null> {
  return (await readTwin(authorityPath(dir), keyFormat)).value;
}

/** @throws StillpointError `store-missing`, `config`: it is lost, and says what that means */
export async function readAuthority(dir: string): Promise<KeyAndCertificate> {
  const path = authorityPath(dir);
  const authority = await findAuthority(dir).catch((error: Error) => {
    if (isStillpointError(error, 'version')) throw error;
    throw lostAuthority(dir, `neither it nor its copy can be read (${error.message})`);
  });
  if (authority !== null) return authority;
  if ((await findSettings(dir)) === null) return present<KeyAndCertificate>(null, dir);
  throw lostAuthority(dir, `it is gone, and so is ${basename(copyPathOf(path))}`);
}

function lostAuthority(dir: string, reason: string): StillpointError {
  return new StillpointError('config', {
    thing: authorityPath(dir),
    reason,
    remedy:
      'Put it back from a copy of the directory: agents trust no receiver without it. If there is none, ' +
      `"stillpoint receiver repair ${dir} --new-identity" makes another, and every agent must be invited and ` +
      'enrolled again. No point is lost; they can be restored with --store DIR meanwhile.',
  });
}

/** The id that an authority was made for: its certificate says it. */
export function receiverIdOf(authority: KeyAndCertificate | null): string | null {
  if (authority === null) return null;
  const subject = new X509Certificate(authority.certificate).subject;
  return /Stillpoint receiver ([0-9a-f]{32}) authority/.exec(subject)?.[1] ?? null;
}

/** Of the authority's time (30 years): when its successor is made, and when that takes over. */
const SUCCESSOR_PART = 1 / 3;
const REPLACED_PART = 1 / 6;
/** Agents hear of a successor when they renew, which they do every year. */
const ANNOUNCED_MS = 2 * 365 * 24 * 60 * 60 * 1000;

/**
 * The authority, replaced in time: its successor is made and announced to agents with their renewals; years
 * later it takes over, and certificates of the former one are believed until they expire. Each step is one
 * file, and may be done again.
 */
async function loadAuthorities(
  dir: string,
  id: string,
  now: Date,
): Promise<Pick<ReceiverIdentity, 'authority' | 'trusted' | 'announced'>> {
  let authority = await readAuthority(dir);
  let next = await readStateFile(nextPath(dir), keyFormat);
  let former = await readStateFile(formerPath(dir), keyFormat);
  if (next === null && isNearItsEnd(authority.certificate, now, SUCCESSOR_PART)) {
    next = await createAuthority(id, now);
    await writeStateFile(nextPath(dir), keyFormat, next);
  }
  const sinceMs =
    next === null ? 0 : now.getTime() - Date.parse(new X509Certificate(next.certificate).validFrom);
  if (
    next !== null &&
    next.certificate !== authority.certificate &&
    isNearItsEnd(authority.certificate, now, REPLACED_PART) &&
    sinceMs > ANNOUNCED_MS
  ) {
    former = authority;
    await writeStateFile(formerPath(dir), keyFormat, former);
    authority = next;
    await writeTwin(authorityPath(dir), keyFormat, authority);
  }
  if (next !== null && next.certificate === authority.certificate) {
    next = null;
    await rm(nextPath(dir), { force: true });
    await syncDirectory(receiverDirectory(dir));
  }
  const announced = [authority, ...(next === null ? [] : [next])].map(({ certificate }) => certificate);
  return { authority, announced, trusted: [...announced, ...(former === null ? [] : [former.certificate])] };
}

/**
 * Everything that serving needs. A server certificate that is lost, damaged or near its end is made anew; so
 * is the one of a file and its copy that is not whole. May be called again while it serves.
 */
export async function loadIdentity(dir: string, now: Date): Promise<ReceiverIdentity> {
  const settings = await readSettings(dir);
  await readAuthority(dir);
  await mendTwin(settingsPath(dir), settingsFormat, await readTwin(settingsPath(dir), settingsFormat));
  await mendTwin(authorityPath(dir), keyFormat, await readTwin(authorityPath(dir), keyFormat));
  const { authority, ...authorities } = await loadAuthorities(dir, settings.id, now);
  let server = await readSpareStateFile(serverPath(dir), keyFormat);
  if (server === null || !isUsable(server, authority, now)) {
    server = await createServerCertificate(authority, settings.id, now);
    await writeStateFile(serverPath(dir), keyFormat, server);
  }
  return { settings, authority, ...authorities, server };
}

/**
 * One that is not valid yet is kept: the clock is wrong, and another certificate would be of that wrong time,
 * too.
 */
function isUsable(server: KeyAndCertificate, authority: KeyAndCertificate, now: Date): boolean {
  const issuer = new X509Certificate(authority.certificate);
  const certificate = new X509Certificate(server.certificate);
  const fault = checkCertificate(certificate, issuer, 'receiver', now);
  return fault === 'not-yet-valid' || (fault === null && !isNearItsEnd(server.certificate, now));
}

function present<T>(value: T | null, dir: string): T {
  if (value !== null) return value;
  throw new StillpointError('store-missing', {
    thing: dir,
    reason: 'no receiver was made here',
    remedy: `Run "stillpoint receiver init ${dir}".`,
  });
}

/** `HOST:PORT`, `[V6]:PORT`. @throws StillpointError `usage` */
export function parseListen(listen: string): ListenAddress {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(listen);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new StillpointError('usage', {
      thing: `listen address ${JSON.stringify(listen)}`,
      reason: 'it is not HOST:PORT',
      remedy: `Use for example ${LISTEN_DEFAULT} or [::]:8440.`,
    });
  }
  return { host, port };
}

/** `https://HOST[:PORT]`. @throws StillpointError `usage` */
export function checkUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed?.protocol === 'https:' && parsed.pathname === '/' && parsed.search === '') return parsed.origin;
  throw new StillpointError('usage', {
    thing: `URL ${JSON.stringify(url)}`,
    reason: 'it is not https://HOST[:PORT]',
  });
}
