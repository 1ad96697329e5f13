/**
 * `--store`: which receiver a command talks to, the same on every command. Modules that only one of the two
 * ways needs (TLS and HTTP; the store and its index) are loaded when that way is taken, so that a short
 * backup does not wait for the others.
 */

import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import type { StorePlace } from '../../agent/state/known-stores.js';
import { StillpointError } from '../../domain/base/errors.js';
import { checkName, LOCAL_AGENT } from '../../domain/base/names.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import { parseRateLimit, type RateSchedule } from '../../domain/session/rate-limit.js';
import type { ReceiverPort } from '../../protocol/port/receiver.js';
import { type MeasuredLink, measuredLink } from '../../protocol/transport/measured-link.js';
import type { CommandContext } from './context.js';
import type { PlaceChoice } from './store-place.js';

/** `--store` and `--agent`, as a command is given them. */
export interface ReceiverChoice extends Pick<PlaceChoice, 'newStore'> {
  readonly store?: string;
  readonly agent?: string;
  readonly limitRate?: RateSchedule;
}

export function storeOption(): Option {
  return new Option(
    '--store <url|dir>',
    'URL of an enrolled receiver, or a directory to use without a network (default: the enrolled receiver)',
  ).argParser(notEmpty);
}

/**
 * For commands that only read: who has a receiver's directory may look at, and restore, the
 * points of all its agents.
 */
export function agentOption(): Option {
  return new Option(
    '--agent <name>',
    'with --store DIR: only the points of this agent (default: the points of all agents)',
  ).argParser(notEmpty);
}

/** Of the commands that make or fill a store. */
export function addPlaceOptions(command: Command): Command {
  return command
    .option('--new-store', 'make a store even if one is known there or its disk is not mounted')
    .option('--accept-store', 'continue with a store that differs from the known one or has lost points');
}

export function limitRateOption(): Option {
  return new Option(
    '--limit-rate <rate>',
    'most bytes a second, both ways: 500K, 10Mbit; by local time: 08:00-18:00=56kbit,10M (default: no limit)',
  ).argParser(parseRateLimit);
}

export function notEmpty(text: string): string {
  if (text !== '') return text;
  throw new InvalidArgumentError('It is empty.');
}

/** Absolute, where `--store` names a directory and no URL. */
export function storeDirectory(store: string | undefined): string | undefined {
  if (store === undefined || /^[a-z][a-z0-9+.-]*:\/\//i.test(store)) return undefined;
  return resolve(store);
}

/**
 * Connects, works, closes. The work is told how fast the link is, if there is one.
 * @param mayCreate make the store where --store names a directory that has none.
 * @param writes the store of a directory is to be written to: the command waits for its turn. Who only reads
 * needs none.
 */
export async function withReceiver<T>(
  context: CommandContext,
  { store, agent, limitRate, newStore }: ReceiverChoice,
  work: (receiver: ReceiverPort, meter: LinkMeter | undefined, place: StorePlace) => Promise<T>,
  { mayCreate = false, writes = mayCreate }: { readonly mayCreate?: boolean; readonly writes?: boolean } = {},
): Promise<T> {
  const directory = storeDirectory(store);
  const isDirectory = directory !== undefined;
  if (agent !== undefined && !isDirectory) {
    throw new StillpointError('usage', {
      thing: `--agent ${agent}`,
      reason: 'over the network an agent sees its own points only',
      remedy: "Use it with --store DIR, on the receiver's machine.",
    });
  }
  if (limitRate !== undefined && isDirectory) {
    throw new StillpointError('usage', {
      thing: '--limit-rate',
      reason: 'with a directory there is no link to limit',
      remedy: 'Omit it, or name an enrolled receiver with --store URL.',
    });
  }
  const link = measuredLink(limitRate);
  const { receiver, place } = isDirectory
    ? await openDirectory(context, directory, agent, { mayCreate, writes, newStore })
    : await connect(context, store, link);
  try {
    return await work(receiver, isDirectory ? undefined : link.meter, place);
  } finally {
    await receiver.close();
  }
}

interface Opened {
  readonly receiver: ReceiverPort;
  readonly place: StorePlace;
}

async function connect(
  { stateDirectory, signal, output }: CommandContext,
  url: string | undefined,
  link: MeasuredLink,
): Promise<Opened> {
  const { findEnrolment } = await import('../../agent/state/enrolment.js');
  const { receiverClient } = await import('../../protocol/client.js');
  const { receiverPlace } = await import('../../agent/state/known-stores.js');
  const { keepEnrolment } = await import('./keep-enrolment.js');
  const enrolment = await findEnrolment(stateDirectory, url);
  const { receiverId, authority, key, certificate } = enrolment;
  const client = receiverClient(
    { url: enrolment.url, receiverId, authority, credentials: { key, certificate } },
    link,
  );
  try {
    // A receiver that is not there at the start is said at once; the agent waits for
    // one that goes away later.
    const info = await unlessAborted(signal, client.greet());
    await keepEnrolment({ stateDirectory, enrolment, client, info, say: (text) => output.note(text) });
    return { receiver: client, place: receiverPlace({ receiverId, url: enrolment.url }) };
  } catch (error) {
    await client.close();
    throw error;
  }
}

interface DirectoryUse {
  readonly mayCreate: boolean;
  readonly writes: boolean;
  readonly newStore: boolean | undefined;
}

async function openDirectory(
  context: CommandContext,
  directory: string,
  agent: string | undefined,
  { mayCreate, writes, newStore = false }: DirectoryUse,
): Promise<Opened> {
  const { openEmbeddedReceiver } = await import('../../receiver/embedded.js');
  const { openStoreInTurn, openStoreToRead } = await import('./open-store.js');
  const { placeToFill, placeToRead } = await import('./store-place.js');
  const place = mayCreate
    ? await placeToFill(context.stateDirectory, directory, { newStore })
    : await placeToRead(context.stateDirectoryIfAny, directory);
  const receiver = await openEmbeddedReceiver(directory, {
    openStore: (dir) =>
      writes ? openStoreInTurn(context.output, dir, context.signal) : openStoreToRead(context.output, dir),
    agent: agent === undefined ? (writes ? LOCAL_AGENT : null) : checkName('agent name', agent),
  });
  return { receiver, place };
}
