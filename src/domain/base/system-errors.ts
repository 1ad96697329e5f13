/**
 * Refusals by the system, in the words of the user: **one table** from errno and place to code, reason and
 * remedy. An errno has a kind (`KINDS`) and a reason; the remedy is that of the kind at the place, or the
 * kind's own. Facts about the path (`PathFacts`) say more than an errno does, and win.
 */
import { type ErrorCode, StillpointError } from './errors.js';

export const PLACES = [
  'device', // what is backed up or looked at
  'target', // what is restored to
  'store',
  'state', // the state directory, or a file that is kept like one
  'hook',
  'output', // standard output
  'kernel', // /proc, /sys
  'socket',
  'temporary',
  'file', // any other
  'process', // no file is known: the process itself
] as const;
export type Place = (typeof PLACES)[number];

/** What an errno alone does not say. All null or false: nothing more is known. */
export interface PathFacts {
  /** The directory on the path that is missing, is none, or may not be searched or written. */
  readonly obstacle: string | null;
  /** The file or directory that `chattr` has locked. */
  readonly flagged: { readonly path: string; readonly flag: 'immutable' | 'append-only' } | null;
  readonly isDanglingLink: boolean;
  readonly isReadOnlyDevice: boolean;
}

export const NO_FACTS: PathFacts = {
  obstacle: null,
  flagged: null,
  isDanglingLink: false,
  isReadOnlyDevice: false,
};

type Kind =
  | 'missing'
  | 'denied'
  | 'read-only'
  | 'full'
  | 'too-large'
  | 'bad-path'
  | 'in-use'
  | 'descriptors'
  | 'memory'
  | 'threads'
  | 'failing'
  | 'unreachable'
  | 'unsupported'
  | 'reader-ended'
  | 'other';

/** Errnos that are met where files, devices, sockets and programs are used. What is not here is `other`. */
const REASONS: Readonly<Record<string, readonly [Kind, string]>> = {
  ENOENT: ['missing', 'it does not exist'],
  ENXIO: ['missing', 'there is no device behind it'],
  ENODEV: ['missing', 'there is no device behind it'],
  ENOMEDIUM: ['missing', 'there is no medium in the drive'],
  EACCES: ['denied', 'access is not allowed'],
  EPERM: ['denied', 'the system does not permit it'],
  EROFS: ['read-only', 'it is read-only, or lies on a read-only file system'],
  ENOSPC: ['full', 'there is no space left'],
  EDQUOT: ['full', 'the disk quota of this user is used up'],
  EFBIG: ['too-large', 'it would be larger than the file system or this process may make a file'],
  ENAMETOOLONG: ['bad-path', 'the path, or a name in it, is longer than the file system allows'],
  ENOTDIR: ['bad-path', 'a part of the path is not a directory'],
  EISDIR: ['bad-path', 'it is a directory'],
  ELOOP: ['bad-path', 'it is a symbolic link where none is allowed, or its links lead in a circle'],
  EEXIST: ['bad-path', 'it already exists'],
  ENOTEMPTY: ['bad-path', 'the directory is not empty'],
  EXDEV: ['bad-path', 'the two names are on different file systems'],
  EMLINK: ['bad-path', 'the file or directory has as many links as the file system allows'],
  EILSEQ: ['bad-path', 'the file system does not take the characters of the name'],
  ENOTBLK: ['bad-path', 'it is not a block device'],
  EBUSY: [
    'in-use',
    'the kernel says that something holds it exclusively (a mount, perhaps in another container)',
  ],
  ETXTBSY: ['in-use', 'it is a program that is running, or is being written, or it is swap space'],
  EADDRINUSE: ['in-use', 'something already listens there'],
  EMFILE: ['descriptors', 'this process has reached its limit of open files'],
  ENFILE: ['descriptors', 'the machine has reached its limit of open files'],
  ENOMEM: ['memory', 'there is not enough memory'],
  ENOBUFS: ['memory', 'there is not enough memory for buffers'],
  EAGAIN: ['threads', 'the system has no thread, lock or buffer left for it at the moment'],
  EIO: ['failing', 'it gives an input/output error'],
  EREMOTEIO: ['failing', 'it gives an input/output error'],
  ENODATA: ['failing', "a sector of it can't be read"],
  EUCLEAN: ['failing', 'its file system is damaged'],
  EBADMSG: ['failing', 'its file system is damaged'],
  ENOLINK: ['failing', 'the connection to it is lost'],
  ESTALE: ['unreachable', 'the file server no longer knows it'],
  ENOTCONN: ['unreachable', 'the program that serves this mount (FUSE), or the other side, has ended'],
  EHOSTDOWN: ['unreachable', 'the machine that serves it is down'],
  EHOSTUNREACH: ['unreachable', "the machine that serves it can't be reached"],
  ENETUNREACH: ['unreachable', 'no network leads to it'],
  ENETDOWN: ['unreachable', 'the network is down'],
  ETIMEDOUT: ['unreachable', 'it does not answer in time'],
  ECONNREFUSED: ['unreachable', 'nothing listens there'],
  ECONNRESET: ['unreachable', 'the other side ended the connection'],
  ECONNABORTED: ['unreachable', 'the connection was aborted'],
  ESHUTDOWN: ['unreachable', 'it was shut down'],
  EADDRNOTAVAIL: ['unreachable', 'this machine has no such address'],
  ENOLCK: ['unsupported', "its file system can't lock files"],
  EOPNOTSUPP: ['unsupported', 'it, or its file system, does not support what was asked for'],
  ENOTSUP: ['unsupported', 'it, or its file system, does not support what was asked for'],
  ENOSYS: ['unsupported', 'the kernel does not support what was asked for'],
  ENOTTY: ['unsupported', 'it does not support what was asked for'],
  EINVAL: ['unsupported', 'it, or its file system, refuses the kind of access that was asked for'],
  ENOEXEC: ['unsupported', 'it is not a program that this machine can run'],
  EBADF: ['other', 'it is closed, or was opened for another purpose'],
  EPIPE: ['reader-ended', 'its reader has ended'],
};

const KIND_REMEDIES: Readonly<Record<Kind, string>> = {
  missing: 'Check the path.',
  denied: 'Run it as root, or as a user that may open it.',
  'read-only': 'Make it writable, or choose another place.',
  full: 'Make room there, or choose another place.',
  'too-large': 'Raise the limit ("ulimit -f" shows that of the process), or choose another place.',
  'bad-path': 'Choose another path.',
  'in-use': 'Stop what uses it.',
  descriptors: 'Close other programs, or raise the limit ("ulimit -n"; LimitNOFILE of a systemd unit).',
  memory: 'Free memory, or raise the limit ("ulimit -v"; MemoryMax of a systemd unit or a container).',
  threads:
    'Try again later, or raise the limits of tasks and memory ("ulimit -u", "ulimit -v"; TasksMax and MemoryMax of a systemd unit or a container).',
  failing: 'Look at its disk, its cable and the kernel log (dmesg).',
  unreachable: 'Mount it again, or check the machine that serves it, and try again.',
  unsupported: 'Choose another place: a file system such as ext4, XFS or btrfs.',
  'reader-ended': 'Check the program that reads it.',
  other: 'Look into the kernel log (dmesg).',
};

type PlaceRemedies = Readonly<Partial<Record<Kind, string>>>;

const STATE_ELSEWHERE = 'name another state directory with --state or STILLPOINT_STATE';
const PRINT_ELSEWHERE = 'print to another place';

const PLACE_REMEDIES: Readonly<Record<Place, PlaceRemedies>> = {
  device: {
    missing: 'Check the path; "lsblk" lists block devices.',
    'in-use': 'Unmount it or stop what uses it.',
    full: 'Make room.',
    'bad-path': 'Name a block device (such as /dev/sdb1) or an image file.',
    unsupported: 'Check that it is a block device or an image file, and look into the kernel log (dmesg).',
  },
  target: {
    missing: 'Check the path; "lsblk" lists block devices.',
    'in-use': 'Unmount it or stop what uses it.',
    full: 'Make room, or choose a target elsewhere.',
    'read-only': 'Make it writable (mount -o remount,rw; blockdev --setrw), or choose another target.',
    'bad-path': 'Choose another target.',
    unsupported: 'Choose another target.',
  },
  store: {
    full: 'Make room on it and try again; nothing that was committed is affected.',
    denied: 'Run it as the owner of the store, or as root.',
    'read-only': 'Mount it writable, or put a writable layer over it (an overlay mount, a snapshot).',
    missing: 'Check that its disk is mounted.',
    failing:
      'Look at the disk of the store and the kernel log (dmesg); "stillpoint verify" tells what is damaged.',
  },
  state: {
    missing: `Make the directory, or ${STATE_ELSEWHERE}.`,
    denied: `Run it as root or as the owner, or ${STATE_ELSEWHERE}.`,
    'read-only': `Make it writable, or ${STATE_ELSEWHERE}.`,
    full: `Make room there, or ${STATE_ELSEWHERE}.`,
    'bad-path': capitalized(`${STATE_ELSEWHERE}.`),
    unsupported: capitalized(`${STATE_ELSEWHERE}.`),
    failing: `Look at its disk and the kernel log (dmesg), or ${STATE_ELSEWHERE}.`,
  },
  hook: {
    missing: 'Check the path of the hook, and of the interpreter in its first line.',
    denied: 'Make it executable (chmod +x), and check that its file system is not mounted noexec.',
    unsupported: 'Begin a script with a line such as #!/bin/sh.',
  },
  output: {
    full: `Make room there, or ${PRINT_ELSEWHERE}.`,
    'too-large': `Raise the limit ("ulimit -f"), or ${PRINT_ELSEWHERE}.`,
    'read-only': capitalized(`${PRINT_ELSEWHERE}.`),
    denied: capitalized(`${PRINT_ELSEWHERE}.`),
    missing: capitalized(`${PRINT_ELSEWHERE}.`),
    'bad-path': capitalized(`${PRINT_ELSEWHERE}.`),
    unsupported: capitalized(`${PRINT_ELSEWHERE}.`),
    other: capitalized(`${PRINT_ELSEWHERE}.`),
  },
  kernel: {
    missing: 'Mount /proc and /sys (in a container too): they show Stillpoint who uses a device.',
    denied: 'Run it as root; in a container, allow it to read /proc and /sys.',
  },
  socket: {
    missing: 'Start the process that serves there.',
    'in-use': 'Stop the process that serves there, or choose another address.',
    'bad-path': 'Choose another path: that of a socket has at most 107 characters.',
    unreachable: 'Start the process that serves there, and try again.',
  },
  temporary: {
    missing: 'Make the temporary directory, or name another one with TMPDIR.',
    denied: 'Name another temporary directory with TMPDIR.',
    'read-only': 'Name another temporary directory with TMPDIR.',
    full: 'Make room there, or name another temporary directory with TMPDIR.',
    'bad-path': 'Name another temporary directory with TMPDIR.',
    unsupported: 'Name another temporary directory with TMPDIR.',
  },
  file: {},
  process: {
    missing: 'Run scripts/setup again: a file of the program may be missing.',
    denied: 'Run it as root.',
    'bad-path': 'Check the paths in the command line.',
  },
};

export interface SystemFailure {
  /** What failed, where the error names no path. */
  readonly thing: string;
  readonly place: Place;
  readonly facts?: PathFacts;
}

interface Told {
  readonly reason: string;
  readonly remedy: string;
}

/** The errno's name (`ENOSPC`) of a system error, of Node's or the native code's; else null. */
export function errnoNameOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { code, info } = error as Error & {
    readonly code?: unknown;
    readonly info?: { readonly code?: unknown };
  };
  if (code === 'ERR_SYSTEM_ERROR' && typeof info?.code === 'string') return info.code;
  // What Node says of a file of the program that it can't load.
  if (code === 'ERR_INVALID_PACKAGE_CONFIG' && error.message.includes('too many open files')) return 'EMFILE';
  if (typeof code === 'string') return /^E[A-Z0-9]+$/.test(code) ? code : null;
  // What V8 says of buffers.
  return error instanceof RangeError && /allocation failed|could not be allocated/i.test(error.message)
    ? 'ENOMEM'
    : null;
}

/** What the path alone tells. */
export function placeOf(
  path: string,
  { stateDirectory, otherwise }: { readonly stateDirectory: string | null; readonly otherwise: Place },
): Place {
  if (/^\/(proc|sys)(\/|$)/.test(path)) return 'kernel';
  const isState = stateDirectory !== null && `${path}/`.startsWith(`${stateDirectory}/`);
  return isState ? 'state' : otherwise;
}

/** Null if it is not an error of the system. */
export function systemError(error: unknown, failure: SystemFailure): StillpointError | null {
  const errno = errnoNameOf(error);
  if (errno === null) return null;
  const { thing, place } = failure;
  const { byteOffset } = error as { readonly byteOffset?: number };
  const { reason, remedy } = tellErrno(errno, failure);
  const where = byteOffset !== undefined && kindOf(errno) === 'failing' ? ` at byte ${byteOffset}` : '';
  return new StillpointError(codeOf(errno, place), {
    ...{ thing, reason: `${reason}${where}`, remedy, cause: error },
  });
}

/** The table: errno, place and facts to words. */
export function tellErrno(errno: string, { thing, place, facts = NO_FACTS }: SystemFailure): Told {
  const [kind, plain] = REASONS[errno] ?? ['other', `the system refused it (${errno})`];
  const remedy = PLACE_REMEDIES[place][kind] ?? KIND_REMEDIES[kind];
  return toldByFacts(kind, thing, facts, remedy) ?? { reason: plain, remedy };
}

/** Of a unix socket: nobody being there is the usual case, all else is told. @param nobody a clause */
export function whyNotConnected(cause: Error, nobody: string): string {
  const errno = errnoNameOf(cause);
  if (errno === null || errno === 'ENOENT' || errno === 'ECONNREFUSED') return nobody;
  return `${nobody}: ${tellErrno(errno, { thing: '', place: 'socket' }).reason}`;
}

function toldByFacts(kind: Kind, thing: string, facts: PathFacts, remedy: string): Told | null {
  const { obstacle, flagged, isDanglingLink, isReadOnlyDevice } = facts;
  if (isReadOnlyDevice && (kind === 'denied' || kind === 'read-only')) {
    return {
      reason: 'the kernel has the device read-only',
      remedy: `Make it writable (blockdev --setrw ${thing}; a loop device is attached again without --read-only), or choose another one.`,
    };
  }
  if (flagged !== null && kind === 'denied') {
    const letter = flagged.flag === 'immutable' ? 'i' : 'a';
    return {
      reason: `${flagged.path === thing ? 'it' : flagged.path} is marked ${flagged.flag}`,
      remedy: `Remove that mark first: chattr -${letter} ${flagged.path}`,
    };
  }
  if (kind === 'missing' && thing.includes('\ufffd')) {
    return {
      reason: "its name is not valid UTF-8, so it can't be found",
      remedy: 'Rename it, or make a link to it with another name (ln -s).',
    };
  }
  if (kind === 'missing' && isDanglingLink) {
    return { reason: 'it is a symbolic link to something that does not exist', remedy };
  }
  if (obstacle === null) return null;
  if (kind === 'missing') return { reason: `the directory ${obstacle} does not exist`, remedy };
  if (kind === 'bad-path') return { reason: `${obstacle}, on the path to it, is not a directory`, remedy };
  if (kind === 'denied')
    return { reason: `this user may not search or write the directory ${obstacle}`, remedy };
  return null;
}

const OF_PROCESS: ReadonlySet<Kind> = new Set<Kind>(['descriptors', 'memory', 'threads']);

function codeOf(errno: string, place: Place): ErrorCode {
  const kind = kindOf(errno);
  if (place === 'store') return kind === 'full' || kind === 'too-large' ? 'store-full' : 'store-io';
  if (place !== 'device' && place !== 'target') return 'system';
  if (kind === 'missing') return 'device-not-found';
  if (kind === 'in-use') return 'device-in-use';
  return OF_PROCESS.has(kind) ? 'system' : 'device-io';
}

function kindOf(errno: string): Kind {
  return REASONS[errno]?.[0] ?? 'other';
}

function capitalized(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
