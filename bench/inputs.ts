/**
 * What is backed up: three states of a 6 GiB disk with an ext4 file system, made once from this
 * machine's own files and kept.
 *
 * | state | made by | in use |
 * |---|---|---|
 * | 1 | files of /usr, in an order that depends on their paths only | 1.0 GiB |
 * | 2 | more of them, and a set of database-like files: a day's work | 2.2 GiB |
 * | 3 | scattered writes of 8 KiB pages into the database files | 2.2 GiB |
 *
 * The same machine gives the same files in the same order; the digest of each state is
 * printed with the figures.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeDatabaseFiles, workOnDatabaseFiles } from './database-files.js';
import { occupiedBytes, shell } from './process.js';
import { byteStream } from './random.js';
import { type Difference, differenceOf } from './reference.js';

const MIB = 1024 * 1024;
const IMAGE_BYTES = 6 * 1024 * MIB;
const FIRST_FILES_BYTES = 830 * MIB;
const MORE_FILES_BYTES = 690 * MIB;
const FILE_BYTES_MAX = 16 * MIB;
const SOLID_BYTES = 2048 * MIB;
const FILE_SYSTEM_ID = '5a111e57-0000-4000-8000-000000000001';
/** To be raised with every change of how the inputs are made. */
const RECIPE = 1;

export interface State {
  readonly path: string;
  readonly digest: string;
  readonly occupiedBytes: number;
  /** Against the state before; of the first, against nothing. */
  readonly difference: Difference;
}

export interface Inputs {
  readonly states: readonly State[];
  /** A file without holes and without zero blocks. */
  readonly solid: { readonly path: string; readonly bytes: number };
}

interface Record {
  readonly recipe: number;
  readonly states: readonly State[];
}

/** Makes what is missing in the directory; takes about two minutes the first time. */
export function prepareInputs(directory: string, say: (text: string) => void): Inputs {
  mkdirSync(directory, { recursive: true });
  const solid = { path: join(directory, 'solid.raw'), bytes: SOLID_BYTES };
  const recordPath = join(directory, 'inputs.json');
  const kept = existsSync(recordPath) ? (JSON.parse(readFileSync(recordPath, 'utf8')) as Record) : null;
  if (kept?.recipe === RECIPE) return { states: kept.states, solid };
  say('making the inputs (kept for later runs)');
  makeSolid(solid.path);
  const states = makeStates(directory);
  writeFileSync(recordPath, JSON.stringify({ recipe: RECIPE, states } satisfies Record));
  return { states, solid };
}

function makeSolid(path: string): void {
  const bytes = byteStream('solid');
  const descriptor = openSync(path, 'w');
  for (let offset = 0; offset < SOLID_BYTES; offset += MIB) writeSync(descriptor, bytes(MIB));
  closeSync(descriptor);
}

function makeStates(directory: string): State[] {
  const paths = [1, 2, 3].map((number) => join(directory, `state-${number}.raw`));
  const [first, second, third] = paths as [string, string, string];
  const { initial, more } = selectFiles();
  shell('rm', '-f', ...paths);
  shell('truncate', `--size=${IMAGE_BYTES}`, first);
  const settings = `hash_seed=${FILE_SYSTEM_ID},lazy_itable_init=0,lazy_journal_init=0`;
  shell('mkfs.ext4', '-q', '-F', '-U', FILE_SYSTEM_ID, '-E', settings, first);
  mounted(first, directory, (root) => copyFiles(initial, root, directory));
  copyState(first, second);
  mounted(second, directory, (root) => {
    copyFiles(more, root, directory);
    makeDatabaseFiles(join(root, 'database'));
  });
  copyState(second, third);
  mounted(third, directory, (root) => workOnDatabaseFiles(join(root, 'database')));
  return paths.map((path, index) => ({
    path,
    digest: shell('b3sum', '--no-names', path).trim(),
    occupiedBytes: occupiedBytes(path),
    difference: differenceOf(paths[index - 1] ?? null, path, join(directory, 'blocks')),
  }));
}

/** Copies an image with its holes. An existing target keeps its inode, so that it stays the same device. */
export function copyState(from: string, to: string): void {
  shell('cp', '--sparse=always', '--reflink=never', from, to);
}

/** Files of the system in the order of their paths' digests: mixed, but the same each time. */
function selectFiles(): { initial: string[]; more: string[] } {
  const listing = shell(
    'find',
    '/usr',
    '-xdev',
    '-type',
    'f',
    '-size',
    `-${FILE_BYTES_MAX / 512}b`,
    '-printf',
    '%s %p\\0',
  );
  const files = listing
    .split('\0')
    .slice(0, -1)
    .map((line) => {
      const blank = line.indexOf(' ');
      const path = line.slice(blank + 1);
      return {
        bytes: Number(line.slice(0, blank)),
        path,
        order: createHash('sha256').update(path).digest('hex'),
      };
    })
    .sort((a, b) => (a.order < b.order ? -1 : 1));
  const initial: string[] = [];
  const more: string[] = [];
  let total = 0;
  for (const { bytes, path } of files) {
    if (total < FIRST_FILES_BYTES) initial.push(path);
    else if (total < FIRST_FILES_BYTES + MORE_FILES_BYTES) more.push(path);
    total += bytes;
  }
  if (total < FIRST_FILES_BYTES + MORE_FILES_BYTES) {
    throw new Error(
      `/usr: it holds only ${total} bytes in files of usual size. The bench needs a fuller system.`,
    );
  }
  return { initial, more };
}

function copyFiles(files: readonly string[], root: string, directory: string): void {
  const list = join(directory, 'files');
  writeFileSync(list, files.map((path) => path.slice(1)).join('\0'));
  const pack = 'tar --create --directory=/ --null --verbatim-files-from --no-recursion --files-from="$1"';
  shell('bash', '-c', `set -o pipefail; ${pack} | tar --extract --directory="$2"`, 'copy', list, root);
  shell('rm', list);
}

function mounted(image: string, directory: string, work: (root: string) => void): void {
  const root = join(directory, 'mounted');
  mkdirSync(root, { recursive: true });
  shell('mount', '-o', 'loop,noatime', image, root);
  try {
    work(root);
  } finally {
    shell('umount', root);
  }
  shell('rmdir', root);
}
