/** Prints the table of figures; a full run also writes it to docs/figures.md. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { backupFigures } from './backup-figures.js';
import { compareFigures } from './compare-figures.js';
import { benchDirectory, exitOnSignals, requireEnvironment } from './environment.js';
import { type Inputs, prepareInputs } from './inputs.js';
import { liveFigures } from './live-figures.js';
import { memoryFigures } from './memory-figures.js';
import { patchFigures } from './patch-figures.js';
import { shell } from './process.js';
import { machineLine, markdownTable, mebibytes, type Row, textTable, writeBetweenMarkers } from './report.js';
import { restoreFigures } from './restore-figures.js';
import { scanFigures } from './scan-figures.js';
import { startFigures } from './start-figures.js';
import { tapFigures } from './tap-figures.js';
import { wireFigures } from './wire-figures.js';

const PAGE = fileURLToPath(new URL('../../../docs/figures.md', import.meta.url));
const SECTIONS = [
  'start',
  'scan',
  'backup',
  'restore',
  'wire',
  'patch',
  'compare',
  'memory',
  'tap',
  'live',
] as const;
type Section = (typeof SECTIONS)[number];
const ROUNDS = 3;

const USAGE = `usage: bench/run [--quick] [--ours] [SECTION...]
Measures ${SECTIONS.join(', ')} (default: all), interleaved with what they are compared with, and prints the table.
Of everything the best of ${ROUNDS} rounds counts, of tap and live the median. Only a run of all of it writes docs/figures.md.
  --quick  one round
  --ours   without borg and restic
Inputs are made once (about 12 GiB in $TMPDIR/stillpoint-bench) and kept.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean' }, ours: { type: 'boolean' }, help: { type: 'boolean' } },
});
const unknown = positionals.filter((name) => !SECTIONS.includes(name as Section));
if (values.help === true || unknown.length > 0) {
  console.log(unknown.length > 0 ? `${unknown.join(', ')}: no such section\n${USAGE}` : USAGE);
  process.exit(unknown.length > 0 ? 2 : 0);
}

const say = (text: string) => console.error(`bench: ${text}`);
const rounds = values.quick === true ? 1 : ROUNDS;
const withPeers = values.ours !== true;
const sections = new Set(positionals.length === 0 ? SECTIONS : positionals);

exitOnSignals();
requireEnvironment(say);
const directory = benchDirectory();
let inputs: Inputs | null = null;
const rows: Row[] = [];
const versions = [shell('b3sum', '--version').trim()];
for (const section of SECTIONS.filter((name) => sections.has(name))) {
  say(section);
  const found = await measureSection(section);
  rows.push(...found);
  console.error(`${textTable(found)}\n`);
}

const lines = [`Machine: ${machineLine(versions)}.`, ...(inputs === null ? [] : [inputLine(inputs)])];
console.log(`${lines.join('\n')}\n\n${textTable(rows)}`);
if (sections.size === SECTIONS.length && rounds === ROUNDS && withPeers) {
  writeBetweenMarkers(PAGE, `${lines.join('\n\n')}\n\n${markdownTable(rows)}`);
  say('docs/figures.md is written');
}

async function measureSection(section: Section): Promise<readonly Row[]> {
  if (section === 'start') return startFigures(directory, rounds);
  if (section === 'scan') return scanFigures(prepared(), directory, rounds);
  if (section === 'restore') return restoreFigures(directory, rounds);
  if (section === 'wire') return wireFigures(prepared(), directory);
  if (section === 'patch') return patchFigures(prepared(), directory);
  if (section === 'compare') return compareFigures(directory);
  if (section === 'memory') return memoryFigures(directory);
  if (section === 'live') return liveFigures(directory, values.quick === true);
  if (section === 'tap') return tapFigures(directory, values.quick === true);
  const figures = await backupFigures(prepared(), directory, rounds, withPeers);
  versions.push(...figures.versions);
  return figures.rows;
}

/** Made when the first section asks for them: not each does. */
function prepared(): Inputs {
  inputs ??= prepareInputs(join(directory, 'inputs'), say);
  return inputs;
}

function inputLine({ states }: Inputs): string {
  const told = states.map(({ digest, occupiedBytes, difference }, index) => {
    const changed = `${mebibytes(difference.changedPages * 4096)} of 4 KiB pages in ${mebibytes(difference.changedBlocks * 65_536)} of 64 KiB blocks`;
    return `state ${index + 1} (${digest.slice(0, 12)}): ${mebibytes(occupiedBytes)} in use, ${changed} changed`;
  });
  return `Input, a 6 GiB image: ${told.join('; ')}.`;
}
