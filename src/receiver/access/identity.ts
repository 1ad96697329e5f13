/**
 * Who a receiver is: what `receiver init DIR` makes under DIR/receiver/, beside the store.
 *
 *   receiver.json    id, where it listens, the URL that agents are told, how long partial sets are kept;
 *                    written last: the commit point of init
 *   authority.json   CA key and certificate; agents pin its fingerprint
 *   server.json      key and certificate that TLS shows; made anew when near its end
 *   invites/  agents/  see tenants.ts
 */
import { randomBytes, X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import {
  makeDirectory,
  readSpareStateFile,
  readStateFile,
  type StateFormat,
  writeStateFile,
} from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { PARTIAL_KEEP_MS_MIN } from '../../domain/base/limits.js';
import { checkCertificate } from '../../protocol/certificates/certificate-identity.js';
import {
  createAuthority,
  createServerCertificate,
  isNearItsEnd,
  type KeyAndCertificate,
} from '../../protocol/certificates/certificates.js';
import { hexIdSchema } from '../../protocol/messages/schemas.js';

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
}

export interface ReceiverIdentity {
  readonly settings: ReceiverSettings;
  readonly authority: KeyAndCertificate;
  readonly server: KeyAndCertificate;
}

const settingsFormat: StateFormat<ReceiverSettings> = {
  format: 'stillpoint-receiver',
  version: 1,
  schema: z.strictObject({
    id: hexIdSchema,
    listen: z.string().max(300),
    url: z.string().max(2000),
    keepPartialMs: z.int().min(PARTIAL_KEEP_MS_MIN).exactOptional(),
  }),
};

const keyFormat: StateFormat<KeyAndCertificate> = {
  format: 'stillpoint-key-and-certificate',
  version: 1,
  schema: z.strictObject({ key: z.string(), certificate: z.string() }),
};

export function receiverDirectory(dir: string): string {
  return join(dir, 'receiver');
}

const settingsPath = (dir: string) => join(receiverDirectory(dir), 'receiver.json');
const authorityPath = (dir: string) => join(receiverDirectory(dir), 'authority.json');
const serverPath = (dir: string) => join(receiverDirectory(dir), 'server.json');

export interface InitOptions {
  readonly listen?: string;
  readonly url?: string;
  readonly keepPartialMs?: number;
  readonly now?: Date;
}

/** Makes the identity, or changes the other settings of the one that is there. */
export async function initReceiver(dir: string, options: InitOptions = {}): Promise<ReceiverSettings> {
  const now = options.now ?? new Date();
  const existing = await readStateFile(settingsPath(dir), settingsFormat);
  const listen = options.listen ?? existing?.listen ?? LISTEN_DEFAULT;
  const { port } = parseListen(listen);
  const url = checkUrl(options.url ?? existing?.url ?? `https://${hostname()}:${port}`);
  const id = existing?.id ?? randomBytes(16).toString('hex');
  if (existing === null) {
    await makeDirectory(receiverDirectory(dir));
    const authority = await createAuthority(id, now);
    await writeStateFile(authorityPath(dir), keyFormat, authority);
    await writeStateFile(serverPath(dir), keyFormat, await createServerCertificate(authority, id, now));
  }
  const keepPartialMs = options.keepPartialMs ?? existing?.keepPartialMs;
  const settings = { id, listen, url, ...(keepPartialMs === undefined ? {} : { keepPartialMs }) };
  await writeStateFile(settingsPath(dir), settingsFormat, settings);
  return settings;
}

/** Null if DIR is a store without a receiver's identity. */
export async function findSettings(dir: string): Promise<ReceiverSettings | null> {
  return readStateFile(settingsPath(dir), settingsFormat);
}

/** @throws StillpointError `store-missing` if DIR was not initialized */
export async function readSettings(dir: string): Promise<ReceiverSettings> {
  return present(await findSettings(dir), dir);
}

export async function readAuthority(dir: string): Promise<KeyAndCertificate> {
  return present(await readStateFile(authorityPath(dir), keyFormat), dir);
}

/** Everything that serving needs; a server certificate that is lost, damaged or near its end is made anew. */
export async function loadIdentity(dir: string, now: Date): Promise<ReceiverIdentity> {
  const settings = await readSettings(dir);
  const authority = await readAuthority(dir);
  let server = await readSpareStateFile(serverPath(dir), keyFormat);
  if (server === null || !isUsable(server, authority, now)) {
    server = await createServerCertificate(authority, settings.id, now);
    await writeStateFile(serverPath(dir), keyFormat, server);
  }
  return { settings, authority, server };
}

function isUsable(server: KeyAndCertificate, authority: KeyAndCertificate, now: Date): boolean {
  const issuer = new X509Certificate(authority.certificate);
  const certificate = new X509Certificate(server.certificate);
  return (
    checkCertificate(certificate, issuer, 'receiver', now) === null && !isNearItsEnd(server.certificate, now)
  );
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
