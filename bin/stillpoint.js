#!/bin/sh
true /* For sh, up to the end of this comment. The rest runs under the Node of scripts/setup,
# whatever is in PATH.
set -eu
home=${0%/*}/..
node=build/runtime/node_modules/.bin/node
if [ ! -x "$home/$node" ]; then
  # Perhaps it was called through a link from elsewhere.
  self=$(readlink -f -- "$0")
  home=${self%/bin/*}
  if [ ! -x "$home/$node" ]; then
    if [ -e "$home/manifest.json" ]; then
      echo "error: stillpoint: its Node is missing. Install the package again." >&2
    else
      echo "error: stillpoint: its Node is not installed yet. Run scripts/setup in its checkout, $home." >&2
    fi
    exit 1
  fi
fi
# Node opens /dev/null for an output that is closed: only here it can be seen.
unset STILLPOINT_CLOSED_OUTPUT
if ! { command : 3>&1; } 2>/dev/null; then export STILLPOINT_CLOSED_OUTPUT=1; fi
exec "$home/$node" "$home/bin/stillpoint.js" "$@"
*/;

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

// A package has one, and lies as a checkout does: what it needs of it.
const isPackage = existsSync(new URL('../manifest.json', import.meta.url));
const MEND = isPackage ? 'Install the package again.' : 'Run scripts/setup again.';
const runtime = JSON.parse(readFileSync(new URL('../scripts/runtime/package.json', import.meta.url), 'utf8'));
const [major] = runtime.optionalDependencies[`node-linux-${process.arch}`]?.split('.') ?? [];
// Its addons are built for one kind of Node.
if (major !== process.versions.node.split('.')[0]) {
  console.error(
    `error: stillpoint: it does not run under Node ${process.versions.node}. Run bin/stillpoint.js itself, without "node" before it.`,
  );
  process.exit(1);
}
const built = fileURLToPath(new URL('../build/bundle/stillpoint.cjs', import.meta.url));
if (!existsSync(built)) {
  console.error(
    isPackage
      ? `error: stillpoint: files of the program are missing. ${MEND}`
      : 'error: stillpoint: it is not built yet. Run scripts/setup in its checkout.',
  );
  process.exit(1);
}
// While the program is loaded, nothing of it can tell errors yet. One cause fails many files
// at once: it is told once.
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
    isPackage ? MEND : 'Run it as root, or make the checkout readable.',
  ],
  MODULE_NOT_FOUND: ['files of the program are missing', MEND],
};
const codeOf = (error) => {
  // A library that can't be loaded has its reason in words.
  const words = String(error?.cause?.message ?? '');
  if (/memory|map segment/i.test(words)) return 'ENOMEM';
  return /too many open files/i.test(words) ? 'EMFILE' : error?.code;
};
const failed = (error) => {
  const [first] = String(error?.message ?? error).split('\n', 1);
  const [reason, remedy] = LIMITS[codeOf(error)] ?? [first.replace(/\.$/, ''), MEND];
  console.error(`error: stillpoint: ${reason}. ${remedy}`);
  process.exit(1);
};
process.on('uncaughtException', failed).on('unhandledRejection', failed);
// What V8 made of the bundle: to compile it takes most of the time of a short command. V8 refuses what
// another version made, but does not look whether it is whole, and made of this bundle.
const compiled = (bundle) => {
  try {
    const file = readFileSync(`${built}.code`);
    const code = file.subarray(32);
    const digest = createHash('sha256').update(bundle).update(code).digest();
    return digest.equals(file.subarray(0, 32)) ? code : undefined;
  } catch {
    return undefined;
  }
};
const load = () => {
  const require = createRequire(built);
  // The lines of a stack are then those of the sources. Node maps only what it loads itself.
  if (process.env.STILLPOINT_STACK) {
    process.setSourceMapsEnabled(true);
    return require(built);
  }
  const bundle = readFileSync(built);
  const script = new vm.Script(Module.wrap(bundle.toString()), {
    filename: built,
    cachedData: compiled(bundle),
  });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, require, module, built, dirname(built));
  return module.exports;
};
try {
  // For ps and top: Node's own name for it is "MainThread".
  writeFileSync('/proc/self/comm', 'stillpoint');
} catch {
  // No matter.
}
let runProcess;
try {
  ({ runProcess } = load());
} catch (error) {
  failed(error);
}
process.off('uncaughtException', failed).off('unhandledRejection', failed);
await runProcess(process.argv.slice(2));
