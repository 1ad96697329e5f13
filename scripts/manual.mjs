// Manual pages and completions, from the same definitions as --help, of the built program.
//   node scripts/manual.mjs TARGET VERSION DATE      into TARGET/man/man1, TARGET/bash-completion/..., ...
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe } from './manual/commands.mjs';
import { bashCompletion, fishCompletion, zshCompletion } from './manual/completions.mjs';
import { manPages } from './manual/man-pages.mjs';

const [target = 'build/manual', version = '', date = ''] = process.argv.slice(2);
const { buildProgram } = await import(pathToFileURL('build/ts/src/cli/main.js').href);
const nothing = { write: () => undefined };
const commands = describe(buildProgram(async () => undefined, { stdout: nothing, stderr: nothing }));

const put = (file, text) => {
  const path = join(target, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
};
for (const [file, page] of manPages(commands, { version, date })) put(`man/man1/${file}`, page);
put('bash-completion/completions/stillpoint', bashCompletion(commands));
put('zsh/vendor-completions/_stillpoint', zshCompletion(commands));
put('fish/vendor_completions.d/stillpoint.fish', fishCompletion(commands));
