/** What a receiver knows of an agent: DIR/receiver/agents/<name>.json. */
import { X509Certificate } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { fingerprint } from '../../protocol/certificates/certificate-identity.js';
import { hexIdSchema } from '../../protocol/schemas/messages.js';
import { receiverDirectory } from './identity.js';

/** One that the agent may show. */
export interface KnownCertificate {
  /** SHA-256 of the certificate, hex. */
  readonly fingerprint: string;
  /** PEM. */
  readonly certificate: string;
}

export interface EnrolledAgent extends KnownCertificate {
  readonly name: string;
  readonly inviteId: string;
  readonly enrolledAt: string;
  /** Made by a renewal; the agent has not shown it yet. */
  readonly next?: KnownCertificate;
  /** Replaced by a renewal: programs that run go on with it for a time. */
  readonly former?: KnownCertificate & { readonly until: string };
  /** Nobody is let in as this agent until it enrolls again. */
  readonly revoked?: { readonly at: string; readonly reason: string | null };
}

const REASON_CHARS_MAX = 300;
const known = { fingerprint: z.string().length(64), certificate: z.string().max(16_384) };

const agentFormat: StateFormat<EnrolledAgent> = {
  format: 'stillpoint-agent',
  version: 1,
  schema: z.strictObject({
    ...known,
    name: z.string(),
    inviteId: hexIdSchema,
    enrolledAt: z.iso.datetime(),
    next: z.strictObject(known).exactOptional(),
    former: z.strictObject({ ...known, until: z.iso.datetime() }).exactOptional(),
    revoked: z
      .strictObject({ at: z.iso.datetime(), reason: z.string().max(REASON_CHARS_MAX).nullable() })
      .exactOptional(),
  }),
};

export const agentsPath = (dir: string) => join(receiverDirectory(dir), 'agents');
export const agentPath = (dir: string, name: string) => join(agentsPath(dir), `${name}.json`);

export function knownCertificate(certificate: string): KnownCertificate {
  return { certificate, fingerprint: fingerprint(new X509Certificate(certificate)).toString('hex') };
}

/** Durable when it resolves. */
export function writeAgent(dir: string, agent: EnrolledAgent): Promise<void> {
  return writeStateFile(agentPath(dir, agent.name), agentFormat, agent);
}

/**
 * @throws StillpointError `bad-name` where the name's file is another agent's: the file system does not tell
 * upper from lower case
 */
export async function findAgent(dir: string, name: string): Promise<EnrolledAgent | null> {
  // One that can't be read is replaced by the agent's next enrolment.
  const found = await readStateFile(agentPath(dir, name), agentFormat).catch((error: unknown) => {
    if (isStillpointError(error, 'config')) return null;
    throw error;
  });
  if (found === null || found.name === name) return found;
  throw new StillpointError('bad-name', {
    thing: `agent ${name}`,
    reason: `the receiver already has ${found.name}, and its file system ignores upper and lower case`,
    remedy: 'Enroll the machine under another name.',
  });
}

/** @param onDamaged is told of files that can't be read */
export async function readAgents(
  dir: string,
  onDamaged: (message: string) => void,
): Promise<Map<string, EnrolledAgent>> {
  const agents = new Map<string, EnrolledAgent>();
  for (const file of await readdir(agentsPath(dir))) {
    if (!file.endsWith('.json')) continue;
    // One that can't be read locks out its own agent, and nobody else.
    const agent = await readStateFile(join(agentsPath(dir), file), agentFormat).catch((error: Error) => {
      onDamaged(
        `agents/${file}: ${error.message} The agent is refused until it is invited and enrolled again.`,
      );
      return null;
    });
    if (agent !== null) agents.set(agent.name, agent);
  }
  return agents;
}
