#!/usr/bin/env node
import { existsSync } from 'node:fs';

const built = new URL('../build/ts/src/cli/main.js', import.meta.url);
if (!existsSync(built)) {
  console.error('error: stillpoint: it is not built yet. Run scripts/setup in its checkout.');
  process.exit(1);
}
// A reader that went away (`stillpoint points | head`) is no reason to stop; a result that could not be written is a failure.
let isWritten = true;
process.stdout.on('error', (error) => {
  isWritten &&= error.code === 'EPIPE';
});
const { main } = await import(built.href);
const exitCode = await main(process.argv.slice(2));
// Stopped by a signal: what a stuck reader of stdout has not taken is not waited for.
if (exitCode > 128) process.exit(exitCode);
process.exitCode = exitCode === 0 && !isWritten ? 1 : exitCode;
