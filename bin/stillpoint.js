#!/usr/bin/env node
import { existsSync } from 'node:fs';

const built = new URL('../build/ts/src/cli/main.js', import.meta.url);
if (!existsSync(built)) {
  console.error('error: stillpoint: it is not built yet. Run scripts/setup in its checkout.');
  process.exit(1);
}
// A reader that went away (`stillpoint points | head`) is no reason to complain.
process.stdout.on('error', (error) => process.exit(error.code === 'EPIPE' ? 0 : 1));
const { main } = await import(built.href);
process.exitCode = await main(process.argv.slice(2));
