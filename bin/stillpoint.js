#!/usr/bin/env node
import { existsSync } from 'node:fs';

const built = new URL('../build/ts/src/cli/main.js', import.meta.url);
if (!existsSync(built)) {
  console.error('error: stillpoint: it is not built yet. Run scripts/setup in its checkout.');
  process.exit(1);
}
// While the program is loaded, nothing of it can tell errors yet. One cause fails many files at once: it is told once.
const LIMITS = {
  EMFILE: ['this process may open no more files', 'Raise the limit (ulimit -n).'],
  ENFILE: [
    'the machine may open no more files',
    'End other programs, or raise the limit (sysctl fs.file-max).',
  ],
  ENOMEM: ['there is not enough memory', 'Free memory, or raise the limit (ulimit -v).'],
  EAGAIN: ['the system has no thread left', 'End other programs, or raise the limit (ulimit -u).'],
  EACCES: [
    'this user may not read the files of the program',
    'Run it as root, or make the checkout readable.',
  ],
  ERR_MODULE_NOT_FOUND: ['files of the program are missing', 'Run scripts/setup again.'],
};
const codeOf = (error) => {
  // A library that can't be loaded has its reason in words.
  const words = String(error?.cause?.message ?? '');
  if (/memory|map segment/i.test(words)) return 'ENOMEM';
  return /too many open files/i.test(words) ? 'EMFILE' : error?.code;
};
const failed = (error) => {
  const [first] = String(error?.message ?? error).split('\n', 1);
  const [reason, remedy] = LIMITS[codeOf(error)] ?? [first.replace(/\.$/, ''), 'Run scripts/setup again.'];
  console.error(`error: stillpoint: ${reason}. ${remedy}`);
  process.exit(1);
};
process.on('uncaughtException', failed).on('unhandledRejection', failed);
const { runProcess } = await import(built.href).catch(failed);
process.off('uncaughtException', failed).off('unhandledRejection', failed);
await runProcess(process.argv.slice(2));
