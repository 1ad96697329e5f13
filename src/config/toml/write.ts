/** Values as TOML has them, for the files that commands write and for what they show. */

export type TomlLiteral = string | number | boolean | readonly TomlLiteral[];

/** JSON's strings are basic strings of TOML, but for the control character that JSON leaves as it is. */
export function tomlLiteral(value: TomlLiteral): string {
  if (typeof value === 'string') return JSON.stringify(value).replaceAll('\u007f', '\\u007f');
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return `[${value.map(tomlLiteral).join(', ')}]`;
}

export function tomlKey(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : tomlLiteral(name);
}

/** Lines `KEY = VALUE`; what is undefined is left out. */
export function tomlLines(values: Readonly<Record<string, TomlLiteral | undefined>>): string[] {
  return Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [`${tomlKey(name)} = ${tomlLiteral(value)}`],
  );
}
