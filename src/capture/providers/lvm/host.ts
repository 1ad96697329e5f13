/**
 * What the provider `lvm` needs of its machine: the commands of LVM and device mapper, and what the kernel
 * says of a device. Tests have another one.
 *
 * A command that changes something is never killed: one that dies with a volume suspended leaves it so, and
 * all that write to it hang. LVM holds back SIGTERM while anything is suspended, so that is what a command
 * gets that takes too long.
 */
import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { readFact } from '../../../devices/system/block-sysfs.js';
import { deviceNumber } from '../../../devices/system/in-use.js';

export type LvmProgram =
  | 'lvs'
  | 'lvcreate'
  | 'lvremove'
  | 'lvchange'
  | 'lvextend'
  | 'dmsetup'
  | 'thin_delta'
  | 'udevadm'
  | 'sync';

export interface RunOptions {
  /** Default: 60 s, as much as waiting for another LVM command may take. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A device of device mapper. */
export interface Mapping {
  readonly name: string;
  readonly uuid: string;
  readonly isSuspended: boolean;
}

export interface LvmHost {
  /** @returns its stdout. @throws CommandError */
  run(program: LvmProgram, args: readonly string[], options?: RunOptions): Promise<string>;
  /** Null: it is none of device mapper. */
  mapping(path: string): Promise<Mapping | null>;
  /** For locks: not on any volume. */
  readonly lockDirectory: string;
  /** Where udev reads rules that end with the machine's run; null: there is no udev. */
  readonly udevRules: string | null;
  /** Where LVM keeps copies of its metadata, and waits for its own files; null: nowhere. */
  readonly writesBeside: string | null;
}

export class CommandError extends Error {
  readonly program: string;
  /** It is not installed. */
  readonly isMissing: boolean;

  /** @param reason a clause */
  constructor(program: string, reason: string, isMissing = false) {
    super(reason);
    this.program = program;
    this.isMissing = isMissing;
  }
}

const DEADLINE_MS = 60_000;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;
const ERROR_BYTES_MAX = 64 * 1024;
const PATH = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin';
const UDEV_RULES = '/run/udev';

export const realHost: LvmHost = {
  run: runCommand,
  mapping: async (path) => {
    const status = await stat(path, { bigint: true });
    if (!status.isBlockDevice()) return null;
    const directory = `/sys/dev/block/${deviceNumber(status.rdev)}/dm`;
    const [name, uuid, suspended] = await Promise.all(
      ['name', 'uuid', 'suspended'].map((fact) => readFact(directory, fact)),
    );
    return name == null ? null : { name, uuid: uuid ?? '', isSuspended: suspended === '1' };
  },
  lockDirectory: '/run/stillpoint/lvm',
  udevRules: UDEV_RULES,
  writesBeside: '/etc',
};

function runCommand(
  program: LvmProgram,
  args: readonly string[],
  { deadlineMs = DEADLINE_MS, signal }: RunOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    // A session of its own: an interrupt from the terminal is for this process, which ends it in order.
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: { LC_ALL: 'C', PATH, LVM_SUPPRESS_FD_WARNINGS: '1' },
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const sizes = { out: 0, err: 0 };
    let tooMuch = false;
    child.stdout.on('data', (bytes: Buffer) => {
      sizes.out += bytes.length;
      if (sizes.out <= OUTPUT_BYTES_MAX) out.push(bytes);
      else if (!tooMuch) {
        tooMuch = true;
        child.kill('SIGTERM');
      }
    });
    child.stderr.on('data', (bytes: Buffer) => {
      sizes.err += bytes.length;
      if (sizes.err <= ERROR_BYTES_MAX) err.push(bytes);
    });
    const giveUp = (reason: string): void => {
      child.kill('SIGTERM');
      child.unref();
      end();
      reject(new CommandError(program, reason));
    };
    const late = `${program} did not answer within ${deadlineMs / 1000} s; another LVM command may hold its lock`;
    const timer = setTimeout(() => giveUp(late), deadlineMs);
    const cancel = (): void => giveUp('it was cancelled');
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
    };
    if (signal?.aborted === true) return cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    child.once('error', (error: NodeJS.ErrnoException) => {
      end();
      const isMissing = error.code === 'ENOENT';
      const reason = isMissing
        ? `${program} is not installed`
        : `${program} can't be started: ${error.message}`;
      reject(new CommandError(program, reason, isMissing));
    });
    child.once('close', (code) => {
      end();
      if (tooMuch) reject(new CommandError(program, `${program} printed more than is taken`));
      else if (code === 0) resolve(Buffer.concat(out).toString('utf8'));
      else reject(new CommandError(program, whyFailed(program, code, Buffer.concat(err).toString('utf8'))));
    });
  });
}

/** The first line that is no warning. */
function whyFailed(program: string, code: number | null, text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  const line = lines.find((one) => one !== '' && !/^(WARNING|TEST MODE)\b/.test(one));
  return `${program} says: ${line?.replace(/\.$/, '') ?? `exit code ${code}`}`;
}
