/**
 * Checks a tree of files by a schema, and makes the settings of it. Nothing is thrown: all faults are
 * gathered, each with its file and line.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import type { AnyKey, Fields, Settings, ValueKey } from '../schema/kinds.js';
import { type Origin, plainOf, type TomlNode, type TomlTable } from '../toml/parse.js';
import { type ConfigFault, faultAt } from './faults.js';
import { suggestion } from './suggest.js';

/** A value that applies, for `config show`. */
export interface EffectiveValue {
  /** `device[0].schedule` */
  readonly key: string;
  /** As it is written; undefined: there is none. */
  readonly value: unknown;
  /** Null: a preset. */
  readonly origin: Origin | null;
  readonly isSecret: boolean;
  /** What applies where there is none. */
  readonly otherwise: string;
}

export interface Checked<F extends Fields> {
  readonly settings: Settings<F>;
  readonly values: readonly EffectiveValue[];
  readonly faults: readonly ConfigFault[];
  /** Of tables and values that were written, by key. */
  readonly origins: ReadonlyMap<string, Origin>;
}

interface Pass {
  readonly values: EffectiveValue[];
  readonly faults: ConfigFault[];
  readonly origins: Map<string, Origin>;
  /** Where systemd puts credentials. */
  readonly credentials: string | undefined;
}

const SECRET_BYTES_MAX = 64 * 1024;

/** @param credentials $CREDENTIALS_DIRECTORY */
export function check<F extends Fields>(root: TomlTable, fields: F, credentials?: string): Checked<F> {
  const pass: Pass = { values: [], faults: [], origins: new Map(), credentials };
  const settings = checkFields(root, fields, '', '', pass) as Settings<F>;
  return { settings, values: pass.values, faults: pass.faults, origins: pass.origins };
}

const under = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);

/** @param path with numbers, for origins. @param shown without, for messages */
function checkFields(
  table: TomlTable | null,
  fields: Fields,
  path: string,
  shown: string,
  pass: Pass,
): Record<string, unknown> {
  if (table !== null) checkNames(table, fields, shown, pass);
  const settings: Record<string, unknown> = {};
  for (const [name, key] of Object.entries(fields)) {
    const node = table?.entries.get(name);
    settings[name] = checkKey(node, key, under(path, name), under(shown, name), { pass, table, name });
  }
  return settings;
}

function checkNames(table: TomlTable, fields: Fields, shown: string, { faults }: Pass): void {
  const names = Object.entries(fields).flatMap(([name, key]) =>
    key.kind === 'value' && key.isSecret ? [name, `${name}-file`, `${name}-credential`] : [name],
  );
  for (const [name, node] of table.entries) {
    if (names.includes(name)) continue;
    const meant = suggestion(name, names);
    const where = shown === '' ? 'this file' : `[${shown}]`;
    const remedy = meant === null ? `${where} has ${names.join(', ')}.` : `Did you mean ${meant}?`;
    faults.push(faultAt(node.origin, under(shown, name), 'there is no such key', remedy));
  }
}

interface Place {
  readonly pass: Pass;
  /** That has it, for the other ways to give a secret. */
  readonly table: TomlTable | null;
  readonly name: string;
}

function checkKey(
  node: TomlNode | undefined,
  key: AnyKey,
  path: string,
  shown: string,
  place: Place,
): unknown {
  const { pass } = place;
  if (node !== undefined) pass.origins.set(path, node.origin);
  const wrongForm = (allowed: string): void => {
    if (node !== undefined)
      pass.faults.push(faultAt(node.origin, shown, `it is ${found(node)}, and has to be ${allowed}`));
  };
  switch (key.kind) {
    case 'value':
      return key.isSecret
        ? checkSecret(node, key, path, shown, place)
        : checkValue(node, key, path, shown, place);
    case 'table':
      if (node !== undefined && node.kind !== 'table') wrongForm(`a table: [${shown}]`);
      return checkFields(node?.kind === 'table' ? node : null, key.fields, path, shown, pass);
    case 'list': {
      if (node === undefined) return [];
      if (node.kind !== 'list' || node.items.some(({ kind }) => kind !== 'table')) {
        wrongForm(`tables: [[${shown}]]`);
        return [];
      }
      if (node.items.length > key.most)
        pass.faults.push(
          faultAt(node.origin, shown, `there are ${node.items.length}, and ${key.most} is the limit`),
        );
      return node.items.map((item, at) => {
        const itemPath = `${path}[${at}]`;
        pass.origins.set(itemPath, item.origin);
        return checkFields(item.kind === 'table' ? item : null, key.fields, itemPath, shown, pass);
      });
    }
    case 'named': {
      if (node === undefined) return {};
      if (node.kind !== 'table') {
        wrongForm(`a table: [${shown}]`);
        return {};
      }
      if (node.entries.size > key.most)
        pass.faults.push(
          faultAt(node.origin, shown, `there are ${node.entries.size}, and ${key.most} is the limit`),
        );
      return Object.fromEntries(
        [...node.entries].map(([name, value]) => [
          name,
          checkKey(value, key.each, under(path, name), under(shown, name), { pass, table: node, name }),
        ]),
      );
    }
  }
}

function checkValue(
  node: TomlNode | undefined,
  key: ValueKey<unknown>,
  path: string,
  shown: string,
  { pass, table }: Place,
): unknown {
  const { preset, otherwise, isSecret } = key;
  if (node === undefined) {
    pass.values.push({ key: path, value: preset, origin: null, isSecret, otherwise });
    if (key.isRequired && table !== null)
      pass.faults.push(
        faultAt(table.origin, shown, 'it is missing', `Write for example: ${exampleOf(shown, key)}`),
      );
    return preset === undefined ? null : key.schema.parse(preset);
  }
  const value = plainOf(node);
  pass.values.push({ key: path, value, origin: node.origin, isSecret, otherwise });
  const parsed = key.schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { reason, remedy } = causeOf(parsed.error);
  const what = isSecret ? 'a secret' : found(node);
  const because = reason === null ? '' : ` (${reason})`;
  pass.faults.push(
    faultAt(node.origin, shown, `it is ${what}, and has to be ${key.allowed}${because}`, remedy),
  );
  return null;
}

function exampleOf(shown: string, { example }: ValueKey<unknown>): string {
  return `${shown.split('.').at(-1)} = ${JSON.stringify(example)}.`;
}

/** What the parser of a text said. */
function causeOf(error: z.ZodError): { reason: string | null; remedy: string | null } {
  const issue = error.issues.find(({ code }) => code === 'custom');
  if (issue === undefined || issue.code !== 'custom' || issue.params === undefined)
    return { reason: null, remedy: null };
  const { remedy } = issue.params as { remedy?: string };
  return { reason: issue.message, remedy: remedy ?? null };
}

function found(node: TomlNode): string {
  if (node.kind === 'table') return 'a table';
  const value = plainOf(node);
  if (value instanceof Date) return 'a date';
  if (typeof value === 'bigint') return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}

/** From the file itself, another file, or a credential: one of the three. */
function checkSecret(
  node: TomlNode | undefined,
  key: ValueKey<unknown>,
  path: string,
  shown: string,
  place: Place,
): unknown {
  const { table, name, pass } = place;
  const [fromFile, fromCredential] = [`${name}-file`, `${name}-credential`].map((other) =>
    table?.entries.get(other),
  );
  const given = [node, fromFile, fromCredential].filter((each) => each !== undefined);
  const [first, second] = given;
  if (second !== undefined)
    pass.faults.push(faultAt(second.origin, shown, 'it is given twice', 'Keep one of them.'));
  if (first === undefined || first === node) return checkValue(node, key, path, shown, place);
  const asked = plainOf(first);
  const refuse = (reason: string): null => {
    pass.faults.push(faultAt(first.origin, shown, reason));
    return null;
  };
  const isFile = first === fromFile;
  if (typeof asked !== 'string' || (isFile ? !asked.startsWith('/') : !/^[A-Za-z0-9._-]{1,255}$/.test(asked)))
    return refuse(
      `it is ${found(first)}, and has to be ${isFile ? 'an absolute path' : 'the name of a credential'}`,
    );
  if (!isFile && pass.credentials === undefined)
    return refuse('there are no credentials: systemd gives them to a unit by LoadCredential');
  const file = isFile ? asked : join(pass.credentials ?? '', asked);
  try {
    const text = readFileSync(file, 'utf8');
    if (text.length > SECRET_BYTES_MAX) return refuse(`${file} has more than ${SECRET_BYTES_MAX} bytes`);
    const read: TomlNode = { kind: 'value', origin: first.origin, value: text.replace(/\r?\n$/, '') };
    return checkValue(read, key, path, shown, place);
  } catch (error) {
    return refuse(`${file} can't be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`);
  }
}
