/**
 * `--store`: which receiver a command talks to, the same on every command. What only one of the two ways needs (TLS and HTTP;
 * the store and its index) is loaded when it is gone: a short backup is not to wait for it.
 */
import { resolve } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import { unlessAborted } from '../agent/cancel.js';
import { StillpointError } from '../domain/errors.js';
import { checkName } from '../domain/names.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import type { CommandContext } from './context.js';

/** `--store` and `--agent`, as a command is given them. */
export interface ReceiverChoice {
  readonly store?: string;
  readonly agent?: string;
}

export function storeOption(): Option {
  return new Option(
    '--store <url|dir>',
    'receiver: URL of an enrolled one, or directory to use without network (default: the one enrolled with)',
  ).argParser(notEmpty);
}

/** For commands that only read: who has a receiver's directory may look at, and restore, the points of all its agents. */
export function agentOption(): Option {
  return new Option(
    '--agent <name>',
    'with --store DIR: whose points, of the agents enrolled with that receiver (default: those of backups into the directory itself)',
  ).argParser(notEmpty);
}

export function notEmpty(text: string): string {
  if (text !== '') return text;
  throw new InvalidArgumentError('It is empty.');
}

/** Connects, works, closes. @param mayCreate make the store where --store names a directory that has none. */
export async function withReceiver<T>(
  context: CommandContext,
  { store, agent }: ReceiverChoice,
  work: (receiver: ReceiverPort) => Promise<T>,
  { mayCreate = false }: { readonly mayCreate?: boolean } = {},
): Promise<T> {
  const isDirectory = store !== undefined && !/^[a-z][a-z0-9+.-]*:\/\//i.test(store);
  if (agent !== undefined && !isDirectory) {
    throw new StillpointError('usage', {
      thing: `--agent ${agent}`,
      reason: 'over the network an agent sees its own points only',
      remedy: "Use it with --store DIR, on the receiver's machine.",
    });
  }
  const receiver = isDirectory
    ? await openDirectory(context, resolve(store), agent, mayCreate)
    : await connect(context, store);
  try {
    return await work(receiver);
  } finally {
    await receiver.close();
  }
}

async function connect(
  { stateDirectory, signal }: CommandContext,
  url: string | undefined,
): Promise<ReceiverPort> {
  const { findEnrolment } = await import('../agent/enrolment.js');
  const { ReceiverClient } = await import('../protocol/client.js');
  const { receiverId, authority, key, certificate, ...enrolment } = await findEnrolment(stateDirectory, url);
  const client = new ReceiverClient({
    ...{ url: enrolment.url, receiverId, authority },
    credentials: { key, certificate },
  });
  try {
    // A receiver that is not there at the start is said at once; the agent waits for one that goes away later.
    await unlessAborted(signal, client.info());
    return client;
  } catch (error) {
    await client.close();
    throw error;
  }
}

async function openDirectory(
  { output }: CommandContext,
  directory: string,
  agent: string | undefined,
  mayCreate: boolean,
): Promise<ReceiverPort> {
  const { openEmbeddedReceiver } = await import('../receiver/embedded.js');
  const { makeStoreIfMissing, openStoreWithProgress } = await import('./open-store.js');
  if (mayCreate) await makeStoreIfMissing(directory);
  return openEmbeddedReceiver(directory, {
    openStore: (dir) => openStoreWithProgress(output, dir),
    ...(agent === undefined ? {} : { agent: checkName('agent name', agent) }),
  });
}
