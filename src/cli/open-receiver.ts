/** `--store`: which receiver a command talks to, the same on every command. */
import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option } from 'commander';
import { findEnrolment } from '../agent/enrolment.js';
import { StillpointError } from '../domain/errors.js';
import { ReceiverClient } from '../protocol/client.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import { RETRY_DEFAULT, RetryingReceiver } from '../protocol/retry.js';
import { openEmbeddedReceiver } from '../receiver/embedded.js';
import type { CommandContext } from './context.js';
import { openStoreWithProgress } from './open-store.js';

/** What the files of a store, or of a receiver that has none yet, are known by. */
const STORE_MARKS = ['store.json', 'receiver'];

export interface Access {
  /** Make the store where --store names a directory that has none. */
  readonly mayCreate: boolean;
  /** For how long a message that found no receiver is sent again. */
  readonly patienceMs: number;
}

const READING: Access = { mayCreate: false, patienceMs: RETRY_DEFAULT.deadlineMs };

export function storeOption(): Option {
  return new Option(
    '--store <url|dir>',
    'receiver: URL of an enrolled one, or directory to use without network (default: the one enrolled with)',
  );
}

/** Connects, works, closes. */
export async function withReceiver<T>(
  context: CommandContext,
  store: string | undefined,
  work: (receiver: ReceiverPort) => Promise<T>,
  access: Access = READING,
): Promise<T> {
  const isDirectory = store !== undefined && !/^[a-z][a-z0-9+.-]*:\/\//i.test(store);
  const receiver = isDirectory
    ? await openDirectory(context, resolve(store), access)
    : await connect(context, store, access);
  try {
    return await work(receiver);
  } finally {
    await receiver.close();
  }
}

async function connect(
  { stateDirectory }: CommandContext,
  url: string | undefined,
  { patienceMs }: Access,
): Promise<ReceiverPort> {
  const { receiverId, authority, key, certificate, ...enrolment } = await findEnrolment(stateDirectory, url);
  const client = new ReceiverClient({
    ...{ url: enrolment.url, receiverId, authority },
    credentials: { key, certificate },
  });
  try {
    // A receiver that is not there at the start is said at once; one that goes away is waited for.
    await client.info();
  } catch (error) {
    await client.close();
    throw error;
  }
  return new RetryingReceiver(client, { ...RETRY_DEFAULT, deadlineMs: patienceMs });
}

async function openDirectory(
  context: CommandContext,
  directory: string,
  { mayCreate }: Access,
): Promise<ReceiverPort> {
  const found = await checkStoreDirectory(directory);
  if (found === 'nothing' && !mayCreate) {
    throw new StillpointError('store-missing', {
      thing: directory,
      reason: 'there is no store',
      remedy: 'Check the path; the first backup makes the store.',
    });
  }
  return openEmbeddedReceiver(directory, { openStore: (dir) => openStoreWithProgress(context.output, dir) });
}

/**
 * Guards against a store in the wrong place: a directory with other things in it is refused.
 * @throws StillpointError `store-missing`
 */
export async function checkStoreDirectory(directory: string): Promise<'store' | 'nothing'> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    if (error.code === 'ENOTDIR') throw notAStore(directory, 'it is not a directory');
    throw error;
  });
  if (names.some((name) => STORE_MARKS.includes(name))) return 'store';
  if (names.length === 0) return 'nothing';
  throw notAStore(directory, 'it is neither a store nor empty');
}

function notAStore(directory: string, reason: string): StillpointError {
  return new StillpointError('store-missing', {
    thing: directory,
    reason,
    remedy: 'Check the path, or name an empty or new directory.',
  });
}
