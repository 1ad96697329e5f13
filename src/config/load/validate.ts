/**
 * Checks a tree of files by a schema, and makes the settings of it. Nothing is thrown: all faults are
 * gathered, each with its file and line.
 */
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
}

export function check<F extends Fields>(root: TomlTable, fields: F): Checked<F> {
  const pass: Pass = { values: [], faults: [], origins: new Map() };
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
    settings[name] = checkKey(node, key, under(path, name), under(shown, name), { pass, table });
  }
  return settings;
}

function checkNames(table: TomlTable, fields: Fields, shown: string, { faults }: Pass): void {
  const names = Object.keys(fields);
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
  /** That has it, or should. */
  readonly table: TomlTable | null;
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
      return checkValue(node, key, path, shown, place);
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
          checkKey(value, key.each, under(path, name), under(shown, name), { pass, table: node }),
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
  const { preset, otherwise } = key;
  if (node === undefined) {
    pass.values.push({ key: path, value: preset, origin: null, otherwise });
    if (key.isRequired && table !== null)
      pass.faults.push(
        faultAt(table.origin, shown, 'it is missing', `Write for example: ${exampleOf(shown, key)}`),
      );
    return preset === undefined ? null : key.schema.parse(preset);
  }
  const value = plainOf(node);
  pass.values.push({ key: path, value, origin: node.origin, otherwise });
  const parsed = key.schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { reason, remedy } = causeOf(parsed.error);
  const because = reason === null ? '' : ` (${reason})`;
  pass.faults.push(
    faultAt(node.origin, shown, `it is ${found(node)}, and has to be ${key.allowed}${because}`, remedy),
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
