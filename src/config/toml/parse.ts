/**
 * TOML 1.0 with the place of every key: what was written where. The parser is toml-eslint-parser: of those
 * that are kept up, the one that gives positions of keys (others give values alone).
 */
import type { AST } from 'toml-eslint-parser';

/** Where something is written. */
export interface Origin {
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

export interface TomlTable {
  readonly kind: 'table';
  readonly origin: Origin;
  readonly entries: Map<string, TomlNode>;
}

export interface TomlList {
  readonly kind: 'list';
  readonly origin: Origin;
  readonly items: TomlNode[];
  /** Made of `[[...]]`: those of several files follow one another. */
  readonly isOfTables: boolean;
}

export interface TomlValue {
  readonly kind: 'value';
  readonly origin: Origin;
  readonly value: unknown;
}

export type TomlNode = TomlTable | TomlList | TomlValue;

export class TomlError extends Error {
  readonly line: number;

  constructor(line: number, reason: string) {
    super(reason);
    this.line = line;
  }
}

/** @throws TomlError at the first place that is not TOML: what follows it can't be told */
export async function parseToml(text: string, file: string): Promise<TomlTable> {
  const { ParseError, parseTOML } = await import('toml-eslint-parser');
  let program: AST.TOMLProgram;
  try {
    program = parseTOML(text, { tomlVersion: '1.0' });
  } catch (error) {
    if (error instanceof ParseError) {
      const reason = error.message.replace(/\.$/, '');
      throw new TomlError(error.lineNumber, reason.slice(0, 1).toLowerCase() + reason.slice(1));
    }
    if (error instanceof RangeError) throw new TomlError(1, 'its values are nested too deeply');
    throw error;
  }
  return tableOf(program.body[0], file);
}

function tableOf(top: AST.TOMLTopLevelTable, file: string): TomlTable {
  const root: TomlTable = { kind: 'table', origin: { file, line: 1 }, entries: new Map() };
  for (const item of top.body) {
    if (item.type === 'TOMLKeyValue') addKey(root, item, file);
    else {
      const table = tableAt(root, item, file);
      for (const pair of item.body) addKey(table, pair, file);
    }
  }
  return root;
}

const nameOf = (key: AST.TOMLBare | AST.TOMLQuoted): string =>
  key.type === 'TOMLBare' ? key.name : key.value;

/** The parser has refused keys that clash: what is there has the right kind. */
function descend(table: TomlTable, name: string, origin: Origin): TomlTable {
  const found = table.entries.get(name);
  if (found?.kind === 'table') return found;
  const last = found?.kind === 'list' ? found.items.at(-1) : undefined;
  if (last?.kind === 'table') return last;
  const made: TomlTable = { kind: 'table', origin, entries: new Map() };
  table.entries.set(name, made);
  return made;
}

function tableAt(root: TomlTable, { key, kind }: AST.TOMLTable, file: string): TomlTable {
  const origin = { file, line: key.loc.start.line };
  const names = key.keys.map(nameOf);
  const last = names.pop() ?? '';
  const parent = names.reduce((table, name) => descend(table, name, origin), root);
  if (kind === 'standard') return descend(parent, last, origin);
  const made: TomlTable = { kind: 'table', origin, entries: new Map() };
  const found = parent.entries.get(last);
  if (found?.kind === 'list') found.items.push(made);
  else parent.entries.set(last, { kind: 'list', origin, items: [made], isOfTables: true });
  return made;
}

function addKey(table: TomlTable, { key, value }: AST.TOMLKeyValue, file: string): void {
  const origin = { file, line: key.loc.start.line };
  const names = key.keys.map(nameOf);
  const last = names.pop() ?? '';
  names.reduce((parent, name) => descend(parent, name, origin), table).entries.set(last, nodeOf(value, file));
}

function nodeOf(content: AST.TOMLContentNode, file: string): TomlNode {
  const origin = { file, line: content.loc.start.line };
  if (content.type === 'TOMLArray')
    return {
      kind: 'list',
      origin,
      items: content.elements.map((each) => nodeOf(each, file)),
      isOfTables: false,
    };
  if (content.type === 'TOMLInlineTable') {
    const table: TomlTable = { kind: 'table', origin, entries: new Map() };
    for (const pair of content.body) addKey(table, pair, file);
    return table;
  }
  return { kind: 'value', origin, value: content.value };
}

/** The plain value, for schemas and for messages. */
export function plainOf(node: TomlNode): unknown {
  if (node.kind === 'value') return node.value;
  if (node.kind === 'list') return node.items.map(plainOf);
  return Object.fromEntries([...node.entries].map(([name, value]) => [name, plainOf(value)]));
}
