/**
 * A tap as a block device of its own machine: /dev/nbdN, through the kernel's NBD client and the package
 * nbd-client. It also gets a lasting name for /etc/fstab, `device` beside the sockets. It lives as long as
 * its one connection: if the tap dies, I/O fails, and the device has to be detached before the tap can be
 * attached again (nbd-client can't reconnect a device in use).
 */
import { execFile } from 'node:child_process';
import { rm, symlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { readSpareStateFile, type StateFormat, writeStateFile } from '../config/state-file.js';
import { listDirectory, readFact } from '../devices/system/block-sysfs.js';
import { type DeviceUse, findUses } from '../devices/system/in-use.js';
import { isStillpointError, StillpointError } from '../domain/base/errors.js';
import type { RegisteredTap } from './registry/registry.js';
import { readBootId } from './source/continuity-facts.js';

const execute = promisify(execFile);
const COMMAND_TIMEOUT_MS = 30_000;
/** What fails with all of these is no fault of the device. */
const DEVICES_TRIED_MAX = 4;

/** What makes it the attachment that we made, and not a later one of the same number. */
interface Attachment {
  /** `nbd0` */
  readonly name: string;
  readonly bootId: string;
  /** As the kernel shows it for the device. */
  readonly processId: string;
}

const ATTACHED_FORMAT: StateFormat<Attachment> = {
  format: 'stillpoint tap attachment',
  version: 1,
  schema: z.strictObject({
    name: z.string().regex(/^nbd\d{1,5}$/),
    bootId: z.string().max(64),
    processId: z.string().max(16),
  }),
};

async function readAttachment(tap: RegisteredTap): Promise<Attachment | null> {
  const attachment = await readSpareStateFile(tap.attachedPath, ATTACHED_FORMAT);
  if (attachment === null || attachment.bootId !== (await readBootId())) return null;
  return (await processOf(attachment.name)) === attachment.processId ? attachment : null;
}

/** Null: the device is free. */
const processOf = (name: string): Promise<string | null> => readFact('/sys/block', name, 'pid');

/** `/dev/nbdN`, or null if the tap is not attached. */
export async function attachedDevice(tap: RegisteredTap): Promise<string | null> {
  const attachment = await readAttachment(tap);
  return attachment === null ? null : `/dev/${attachment.name}`;
}

/**
 * Attaches the tap, which must be serving the socket. An attachment from before is dead, and taken away.
 * @returns `/dev/nbdN`
 * @throws StillpointError `device-not-found` where the kernel has no nbd or nbd-client is missing,
 * `device-io`
 */
export async function attach(tap: RegisteredTap, socketPath: string): Promise<string> {
  // Requests that were in flight when the tap died hang until then, and those who wait for them, udev among
  // them, with it. If it is still held afterwards (mounted), the kernel keeps it from being used anew, and
  // the tap gets another device.
  await detach(tap, true);
  await requireKernel();
  let lastError: unknown = null;
  for (const name of (await freeDevices()).slice(0, DEVICES_TRIED_MAX)) {
    const device = `/dev/${name}`;
    try {
      await nbdClient('-unix', socketPath, device, '-N', tap.settings.exportName);
    } catch (error) {
      if (isStillpointError(error, 'device-not-found')) throw error;
      // Somebody may have taken it meanwhile, or has it open, as udev does when one has just become free.
      lastError = error;
      continue;
    }
    const processId = (await processOf(name)) ?? '';
    await writeStateFile(tap.attachedPath, ATTACHED_FORMAT, { name, bootId: await readBootId(), processId });
    await rm(tap.deviceLinkPath, { force: true });
    await symlink(device, tap.deviceLinkPath);
    return device;
  }
  throw (
    lastError ??
    new StillpointError('device-not-found', {
      thing: 'nbd',
      reason: 'all /dev/nbdN of this machine are in use',
      remedy: 'Load the module with more of them: modprobe nbd nbds_max=64',
    })
  );
}

/** Who uses the attached device, besides the client that makes it one. */
export async function attachmentUses(tap: RegisteredTap): Promise<readonly DeviceUse[]> {
  const attachment = await readAttachment(tap);
  if (attachment === null) return [];
  const uses = await findUses(`/dev/${attachment.name}`, 'all');
  return uses.filter((use) => String(use.processId) !== attachment.processId);
}

/**
 * Does nothing if the tap is not attached.
 * @param force also if it is in use, whose I/O fails from then on.
 * @throws StillpointError `device-in-use`, `device-io`
 */
export async function detach(tap: RegisteredTap, force: boolean): Promise<void> {
  const attachment = await readAttachment(tap);
  if (attachment === null) return;
  const device = `/dev/${attachment.name}`;
  const [use] = force ? [] : await attachmentUses(tap);
  if (use !== undefined) throw attachedInUse(device, use);
  await nbdClient('-d', device);
  await rm(tap.deviceLinkPath, { force: true });
  await rm(tap.attachedPath, { force: true });
}

export function attachedInUse(device: string, use: DeviceUse): StillpointError {
  return new StillpointError('device-in-use', {
    thing: device,
    reason: `it is ${use.how}`,
    remedy: use.remedy,
    permanent: false,
  });
}

async function requireKernel(): Promise<void> {
  if ((await readFact('/sys/block/nbd0/size')) !== null) return;
  await execute('modprobe', ['nbd'], { timeout: COMMAND_TIMEOUT_MS }).catch(() => undefined);
  if ((await readFact('/sys/block/nbd0/size')) !== null) return;
  throw new StillpointError('device-not-found', {
    thing: '/dev/nbd0',
    reason: "this machine's kernel has no nbd, so the tap can't be a block device here",
    remedy: 'The tap serves its socket: connect to it with qemu, nbdfuse or another NBD client.',
  });
}

async function freeDevices(): Promise<string[]> {
  const free: string[] = [];
  for (const name of await listDirectory('/sys/block')) {
    if (/^nbd\d+$/.test(name) && (await processOf(name)) === null) free.push(name);
  }
  return free.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
}

async function nbdClient(...args: string[]): Promise<void> {
  try {
    await execute('nbd-client', args, { timeout: COMMAND_TIMEOUT_MS });
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { readonly stderr?: string };
    if (code === 'ENOENT') {
      throw new StillpointError('device-not-found', {
        thing: 'nbd-client',
        reason: 'it is not installed',
        remedy: 'Install it: apt-get install nbd-client',
        cause,
      });
    }
    throw new StillpointError('device-io', {
      thing: `nbd-client ${args.join(' ')}`,
      reason: `it failed (${stderr?.trim().split('\n').at(-1) ?? code})`,
      cause,
    });
  }
}
