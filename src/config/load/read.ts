/** The files of a configuration, as one tree: NAME.toml, then NAME.d/*.toml in the order of their names. */
import { open, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { parseToml, TomlError, type TomlNode, type TomlTable } from '../toml/parse.js';
import { type ConfigFault, faultAt } from './faults.js';

const FILE_BYTES_MAX = 256 * 1024;
const FILES_MAX = 512;

export interface ConfigTree {
  readonly files: readonly string[];
  readonly root: TomlTable;
  readonly faults: readonly ConfigFault[];
}

/** @param main null: drop-ins alone, in `directory` */
export async function configFiles(directory: string, name: string): Promise<string[]> {
  const dropIns = await readdir(join(directory, `${name}.d`)).catch(whenMissing);
  const main = (await readdir(directory).catch(whenMissing)).includes(`${name}.toml`);
  return [
    ...(main ? [join(directory, `${name}.toml`)] : []),
    // One that is being written has a name that begins with a dot.
    ...dropIns
      .filter((file) => /^[^.].*\.toml$/.test(file))
      .sort()
      .map((file) => join(directory, `${name}.d`, file)),
  ];
}

function whenMissing(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
  throw error;
}

/** Whether a file is a part of `agent` or of `receiver`, by where it is; null: its name does not say. */
export function kindOfFile(path: string): 'agent' | 'receiver' | null {
  const [folder = '', file = ''] = [basename(join(path, '..')), basename(path)];
  for (const kind of ['agent', 'receiver'] as const)
    if (file === `${kind}.toml` || folder === `${kind}.d`) return kind;
  return null;
}

/** Reads on after a file that is wrong: all faults are found at once. */
export async function readTree(files: readonly string[]): Promise<ConfigTree> {
  const faults: ConfigFault[] = [];
  const root: TomlTable = { kind: 'table', origin: { file: files[0] ?? '', line: 1 }, entries: new Map() };
  for (const file of files.slice(0, FILES_MAX)) {
    const text = await readBounded(file, faults);
    if (text === null) continue;
    try {
      mergeTable(root, await parseToml(text, file), '', faults);
    } catch (error) {
      if (!(error instanceof TomlError)) throw error;
      faults.push(faultAt({ file, line: error.line }, null, error.message, 'The file is read no further.'));
    }
  }
  if (files.length > FILES_MAX) {
    const file = files[FILES_MAX] ?? '';
    faults.push({ file, line: null, key: null, reason: `${FILES_MAX} files is the limit`, remedy: null });
  }
  return { files, root, faults };
}

async function readBounded(file: string, faults: ConfigFault[]): Promise<string | null> {
  const refuse = (reason: string): null => {
    faults.push({ file, line: null, key: null, reason, remedy: null });
    return null;
  };
  try {
    const handle = await open(file, 'r');
    try {
      const buffer = Buffer.alloc(FILE_BYTES_MAX + 1);
      let length = 0;
      for (;;) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
        length += bytesRead;
        if (bytesRead === 0 || length === buffer.length) break;
      }
      if (length > FILE_BYTES_MAX) return refuse(`it has more than ${FILE_BYTES_MAX / 1024} KiB`);
      return new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, length));
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof TypeError) return refuse('it is not UTF-8');
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    return refuse(code === 'ENOENT' ? 'there is no such file' : `it can't be read (${code})`);
  }
}

/** What comes later counts; `[[...]]` of several files follow one another. */
function mergeTable(into: TomlTable, from: TomlTable, path: string, faults: ConfigFault[]): void {
  for (const [name, node] of from.entries) {
    const present = into.entries.get(name);
    const key = path === '' ? name : `${path}.${name}`;
    if (present === undefined) into.entries.set(name, node);
    else if (present.kind === 'table' && node.kind === 'table') mergeTable(present, node, key, faults);
    else if (present.kind === 'list' && node.kind === 'list' && present.isOfTables && node.isOfTables)
      present.items.push(...node.items);
    else if (isPlain(present) && isPlain(node)) into.entries.set(name, node);
    else {
      const { file, line } = present.origin;
      faults.push(faultAt(node.origin, key, `it has another form than in ${file}:${line}`));
    }
  }
}

function isPlain(node: TomlNode): boolean {
  return node.kind === 'value' || (node.kind === 'list' && !node.isOfTables);
}
