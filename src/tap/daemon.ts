/**
 * The process of a tap: `stillpoint tap serve NAME`. It starts in this order, and stops in the reverse order:
 *
 *   lock → is the map believed? → createTap (which makes that decision durable) → started.json → listen:
 *     snapshot, users → attach → control
 *
 * A stop: control socket (a hold is aborted) → detach, unless in use → the tap ends listening and flushes →
 * the mark of the device → the map is closed clean with it. A process that dies at any moment leaves an open
 * map: a superset.
 */
import { lstat, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Logger } from 'pino';
import { serviceNotifier } from '../config/systemd.js';
import { onDevice } from '../devices/system/device-error.js';
import { findUses } from '../devices/system/in-use.js';
import { StillpointError } from '../domain/base/errors.js';
import { makeDirectories, syncFile } from '../native/files.js';
import type { Tap, TapAddon, TapJournalOptions } from '../native/index.js';
import { attach, attachedDevice, detach } from './attach.js';
import type { TapReport } from './control/messages.js';
import { ControlServer, type HoldSettings } from './control/server.js';
import { journalWatch, startJournal, statusOf } from './journal.js';
import { parseListenAddress } from './registry/listen-address.js';
import { lockTap, type RegisteredTap } from './registry/registry.js';
import { continuityMark, whyDistrusted } from './source/continuity.js';
import {
  machineStops,
  readDeviceFacts,
  readMapFacts,
  readStart,
  writeStart,
} from './source/continuity-facts.js';
import { checkPreserveDirectory, makePreserveDirectory } from './source/preserve.js';
import {
  anchorOf,
  placeOfSource,
  readSource,
  readSourceIdentity,
  type SourceIdentity,
  type TapSource,
} from './source/source.js';

export interface ServeOptions {
  readonly tap: RegisteredTap;
  readonly addon: Pick<TapAddon, 'createTap' | 'readTapMap'>;
  readonly log: Logger;
  /** Aborted: stop cleanly. */
  readonly signal: AbortSignal;
}

/**
 * Users' I/O waits for this process: it is the last that the kernel may kill for want of memory,
 * after its own protection.
 */
const OOM_SCORE = '-900';
/** An image that is cut and grown again is found if one look falls between. */
const SOURCE_WATCH_MS = 1000;

/**
 * Serves until it is told to stop.
 * @throws StillpointError where it can't serve, or could not stop cleanly: then the map counts as after a
 * kill
 */
export async function serveTap(options: ServeOptions): Promise<void> {
  const { tap } = options;
  const lock = await lockTap(tap);
  try {
    // Sockets are made with this mode; nothing that the daemon makes is for others.
    process.umask(0o077);
    await makeDirectories(tap.settings.runDirectory);
    await protectFromOom(options.log);
    const source = await readSource(tap.settings.sourcePath);
    await serveSource(options, source, await readSourceIdentity(source));
  } finally {
    await lock.close();
  }
}

async function serveSource(
  options: ServeOptions,
  source: TapSource,
  identity: SourceIdentity,
): Promise<void> {
  const journal = await startJournal(options.tap, source);
  const native = await openTap(options, source, identity, journal.options);
  try {
    await serveOpened(options, source, native, journal.problem);
  } finally {
    await native.stop();
    const mark = continuityMark(await readDeviceFacts(source, identity), await machineStops());
    const failure = await native.close(mark);
    if (failure !== '') options.log.warn({ reason: failure }, 'the journal does not go on at the next start');
    options.log.info('stopped, the map is closed');
  }
}

async function openTap(
  { tap, addon, log }: ServeOptions,
  source: TapSource,
  identity: SourceIdentity,
  journal: TapJournalOptions | null,
): Promise<Tap> {
  const { settings } = tap;
  await checkUnused(source);
  // What somebody has left in the page cache shows in the counters only when it is written back.
  await onDevice(source.path, () => syncFile(source.path));
  const facts = await readDeviceFacts(source, identity);
  const map = await readMapFacts(addon.readTapMap, tap.mapPath);
  const distrust = whyDistrusted(map, await readStart(tap.startedPath), facts);
  if (distrust !== undefined)
    log.warn({ reason: distrust }, 'the map is not used; the next backup reads everything');
  const native = await onDevice(source.path, () =>
    addon.createTap({
      path: source.path,
      readOnly: settings.readOnly,
      blockSize: settings.blockSize,
      mapPath: tap.mapPath,
      identity: identity.text,
      distrust,
      journal,
    }),
  );
  // After createTap: a kill before this line leaves the record of the earlier start, and the
  // same decision is made again.
  await writeStart(tap.startedPath, facts);
  return native;
}

async function checkUnused(source: TapSource): Promise<void> {
  const writer = (await findUses(source.path, 'writers')).find((use) => use.writable);
  if (writer === undefined) return;
  throw new StillpointError('device-in-use', {
    thing: source.path,
    reason: `it is ${writer.how}: what is written past the tap would be missed`,
    remedy: writer.remedy,
    permanent: false,
  });
}

async function serveOpened(
  options: ServeOptions,
  source: TapSource,
  native: Tap,
  journalProblem: string | null,
): Promise<void> {
  const { tap, log, signal } = options;
  const { settings } = tap;
  const startedAt = new Date().toISOString();
  const anchor = await anchorOf(settings.sourcePath, source);
  const snapshotAddress = await native.listenSnapshot(await freeUnix(tap.snapshotPath));
  const listen: string[] = [];
  for (const address of settings.listen) {
    const parsed = parseListenAddress(address);
    if (parsed.kind === 'unix') await freeUnix(parsed.path);
    listen.push(await native.listen(address, settings.exportName));
  }
  const attachment = await attachIfWished(options);
  const lookAtJournal = journalWatch(native, journalProblem, log);
  const watch = setInterval(() => {
    native.checkSource().catch(() => undefined);
    lookAtJournal();
  }, SOURCE_WATCH_MS);
  try {
    const asked = new AbortController();
    await freeUnix(tap.controlPath);
    const control = await ControlServer.listen(tap.controlPath, {
      tap: native,
      name: settings.name,
      snapshotAddress,
      log,
      report: async (): Promise<TapReport> => {
        // Before the status: it gives up what is held, if the source is not what it was.
        const { sizeBytes, leastBytes } = await native.checkSource();
        return {
          name: settings.name,
          processId: process.pid,
          startedAt,
          listen,
          exportName: settings.exportName,
          attachment,
          status: statusOf(native, journalProblem),
          source: { sizeBytes, leastBytes, place: await placeOfSource(anchor) },
        };
      },
      holdSettings: () => holdSettings(tap, source),
      onStop: () => asked.abort(),
    });
    const { map } = native.status();
    log.info({ source: source.path, listen, device: attachment.device, map: map.reason }, 'serving');
    // Units that wait for the tap start now: its device is there.
    await serviceNotifier(
      process.env,
      () => true,
      (reason) => log.error({ reason }, 'systemd could not be told that the tap serves'),
    ).ready();
    await anyAborted(signal, asked.signal);
    log.info('stopping');
    await control.close();
  } finally {
    clearInterval(watch);
    await detach(tap, false).catch((error: Error) =>
      log.warn({ reason: error.message }, 'the device stays attached, and its I/O fails'),
    );
    await rm(tap.controlPath, { force: true });
  }
}

async function holdSettings(tap: RegisteredTap, source: TapSource): Promise<HoldSettings> {
  const { preserveDirectory, preserveMaxBytes, whenFull } = tap.settings;
  await makePreserveDirectory(preserveDirectory);
  await checkPreserveDirectory(preserveDirectory, source, await attachedDevice(tap));
  return { preserveDirectory, preserveMaxBytes, whenFull };
}

/** A tap that can't be attached still serves. */
async function attachIfWished({ tap, log }: ServeOptions): Promise<TapReport['attachment']> {
  if (!tap.settings.attach) return { device: null, problem: null };
  try {
    const address = tap.settings.listen.map(parseListenAddress).find(({ kind }) => kind === 'unix');
    if (address?.kind !== 'unix') {
      throw new StillpointError('config', {
        thing: `tap ${tap.settings.name}`,
        reason: 'it does not listen on a unix socket, which attaching needs',
      });
    }
    return { device: await attach(tap, address.path), problem: null };
  } catch (error) {
    log.warn({ reason: (error as Error).message }, 'not attached');
    return { device: null, problem: (error as Error).message };
  }
}

function anyAborted(...signals: AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of signals) {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    }
  });
}

/**
 * Takes away the socket that a killed process has left.
 * @returns the address.
 * @throws StillpointError `device-in-use` if it is alive, or no socket
 */
async function freeUnix(path: string): Promise<string> {
  const status = await lstat(path).catch(() => null);
  if (status !== null) {
    if (!status.isSocket() || (await isAnswered(path))) {
      throw new StillpointError('device-in-use', {
        thing: path,
        reason: status.isSocket()
          ? 'another process listens on it'
          : 'something other than a socket is in its place',
        remedy: 'Choose another address with --listen.',
      });
    }
    await rm(path, { force: true });
  }
  return `unix:${path}`;
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function protectFromOom(log: Logger): Promise<void> {
  if (process.getuid?.() !== 0) return;
  await writeFile('/proc/self/oom_score_adj', OOM_SCORE).catch((error: Error) =>
    log.warn({ reason: error.message }, 'no protection from the OOM killer'),
  );
}
