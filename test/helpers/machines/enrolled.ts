/** Agents that a receiver knows, without machines of theirs. */
import { mkdir } from 'node:fs/promises';
import { agentsPath, writeAgent } from '../../../src/receiver/access/agent-file.js';

/** As if it had used its code. */
export async function enrolled(dir: string, name: string): Promise<void> {
  await mkdir(agentsPath(dir), { recursive: true });
  await writeAgent(dir, {
    ...{ name, inviteId: '0'.repeat(32), enrolledAt: new Date().toISOString() },
    ...{ certificate: '', fingerprint: '0'.repeat(64) },
  });
}
