/**
 * Preloaded into a stillpoint process (`node --import .../durable-steps.js bin/stillpoint.js ...`): counts
 * its durable steps, every call that changes what a crash would leave behind, and at one of them kills the
 * process or makes the call fail. It sits below all of our code, at Node's own file functions and at the
 * addon, so no step can pass by it. Set through the environment:
 *
 *   STEPS_FAULT   `kill` (SIGKILL before the step), or an errno name: the step fails with it
 *   STEPS_AT      number of the step that it happens at, from 1
 *   STEPS_FOREVER `1`: every later step fails too (a disk that is gone for good)
 *   STEPS_REPORT  file that gets the names of the steps, one a line, as they happen
 *
 * Killing before step N+1 is killing after step N, so one run over all N covers both.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { constants } from 'node:os';
import { native } from '../../../src/native/index.js';

// biome-ignore lint/complexity/noBannedTypes: functions of every shape are wrapped here
type AnyFunction = Function;

const fault = process.env.STEPS_FAULT ?? '';
const at = Number(process.env.STEPS_AT ?? 0);
const forever = process.env.STEPS_FOREVER === '1';
const report = process.env.STEPS_REPORT;
// Taken before the originals are replaced.
const { writeSync } = fs;
const reportDescriptor = report === undefined ? null : fs.openSync(report, 'a');
const NAMED_CHARS_MAX = 300;
let count = 0;

function step(name: string, detail: unknown): void {
  count += 1;
  if (reportDescriptor !== null) {
    // What is written may be the detail, and have several lines.
    const [line = ''] = typeof detail === 'string' ? detail.split('\n', 1) : [];
    writeSync(reportDescriptor, `${name} ${line.slice(0, NAMED_CHARS_MAX)}\n`);
  }
  if (fault === '' || !(count === at || (forever && count > at))) return;
  if (fault === 'kill') {
    process.kill(process.pid, 'SIGKILL');
    // The signal is delivered at once, but not to this very instruction.
    for (;;);
  }
  const errno = constants.errno[fault as keyof typeof constants.errno];
  throw Object.assign(new Error(`${fault}: injected, ${name}`), {
    code: fault,
    errno: -errno,
    syscall: name,
  });
}

/** Replaces `target[name]` by one that counts first; errors come as the original's do, thrown or rejected. */
function wrap(target: object, name: string, isPromise: boolean, isStep: (args: unknown[]) => boolean): void {
  const methods = target as Record<string, AnyFunction>;
  const original = methods[name];
  if (typeof original !== 'function') return;
  const counted = function (this: unknown, ...args: unknown[]) {
    if (isStep(args)) {
      try {
        step(name, args[0]);
      } catch (error) {
        if (isPromise) return Promise.reject(error);
        throw error;
      }
    }
    return Reflect.apply(original, this, args);
  };
  // The addon's methods are read-only on their prototype.
  Object.defineProperty(methods, name, {
    value: counted,
    writable: true,
    configurable: true,
    enumerable: true,
  });
}

const always = () => true;
/** Opened to write: the file may come into being or lose its content. */
const opensToWrite = ([, flags]: unknown[]) =>
  typeof flags === 'number'
    ? (flags & (fs.constants.O_WRONLY | fs.constants.O_RDWR)) !== 0
    : /[wa+]/.test(String(flags ?? 'r'));

const CHANGES = [
  'rename',
  'unlink',
  'rm',
  'rmdir',
  'mkdir',
  'mkdtemp',
  'truncate',
  'writeFile',
  'appendFile',
  'link',
  'copyFile',
  'symlink',
];
const FILE_CHANGES = ['write', 'writev', 'writeFile', 'appendFile', 'truncate', 'sync', 'datasync'];
const DESCRIPTOR_CHANGES = ['writeSync', 'writevSync', 'ftruncateSync', 'fsyncSync', 'fdatasyncSync'];
const isOurs = (args: unknown[]) => typeof args[0] !== 'number' || args[0] > 2;

const probe = await fs.promises.open('/dev/null', 'r');
const fileHandle = Object.getPrototypeOf(probe) as object;
await probe.close();
for (const name of FILE_CHANGES) wrap(fileHandle, name, true, always);
for (const name of CHANGES) {
  wrap(fs.promises, name, true, always);
  wrap(fs, `${name}Sync`, false, isOurs);
}
for (const name of DESCRIPTOR_CHANGES) wrap(fs, name, false, isOurs);
wrap(fs.promises, 'open', true, opensToWrite);
wrap(fs, 'openSync', false, opensToWrite);
syncBuiltinESMExports();

/** Objects that the addon makes get their durable methods counted too. */
function wrapMade(maker: string, methods: readonly string[]): void {
  wrap(native, maker, true, (args) => maker.startsWith('create') && args.length > 0);
  const addon = native as unknown as Record<string, AnyFunction>;
  const original = addon[maker];
  if (typeof original !== 'function') return;
  addon[maker] = async (...args: unknown[]) => {
    const made = (await Reflect.apply(original, native, args)) as object;
    for (const method of methods) wrap(made, method, true, always);
    return made;
  };
}
wrapMade('createTree', ['apply']);
wrapMade('openTree', ['apply']);
wrapMade('resizeTree', ['apply']);
wrapMade('createOverlay', ['seal']);
wrapMade('openOverlay', ['seal']);
/** What the kernel remembers of a tracked device, and where a copy of it stands. */
wrapMade('createLiveCopy', ['begin', 'collect', 'ship', 'stage', 'accept']);
for (const maker of ['openTracker', 'attachTracker']) wrapMade(maker, ['mark', 'forgetKept']);
wrap(native, 'detachTracker', true, always);
/** What a restore writes. Making a writer, or opening a device, changes nothing. */
const { openDevice, createRestoreWriter } = native;
const countAll = <Made extends object>(made: Made, methods: readonly string[]): Made => {
  for (const method of methods) wrap(made, method, true, always);
  return made;
};
native.openDevice = async (...args) =>
  countAll(await Reflect.apply(openDevice, native, args), ['write', 'flush']);
native.createRestoreWriter = (...args) =>
  countAll(Reflect.apply(createRestoreWriter, native, args), ['write', 'zero', 'flush']);
