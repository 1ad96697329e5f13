/**
 * What a schema is made of. It is the only source: files are checked by it, `config show` goes through it,
 * and docs/configuration.md is made from it. A file of this folder has one section.
 */
import { z } from 'zod';
import { isStillpointError } from '../../domain/base/errors.js';
import type { TomlLiteral } from '../toml/write.js';

interface Described {
  /** One or two sentences. */
  readonly about: string;
}

/** A key with a value. */
export interface ValueKey<T> extends Described {
  readonly kind: 'value';
  readonly schema: z.ZodType<T>;
  /** What is allowed, as a clause: "a path", "a number from 1 to 64". */
  readonly allowed: string;
  /** As it would be written; undefined: none. */
  readonly preset: TomlLiteral | undefined;
  readonly isRequired: boolean;
  /** What applies where there is no preset, for people. */
  readonly otherwise: string;
  readonly unit: string | null;
  readonly example: TomlLiteral;
}

export type Fields = Readonly<Record<string, AnyKey>>;

/** `[section]` */
export interface TableKey<F extends Fields> extends Described {
  readonly kind: 'table';
  readonly fields: F;
}

/** `[[section]]` */
export interface ListKey<F extends Fields> extends Described {
  readonly kind: 'list';
  readonly fields: F;
  readonly most: number;
}

/** `[section]` with keys that the user names. */
export interface NamedKey<T> extends Described {
  readonly kind: 'named';
  /** What the names are. */
  readonly names: string;
  readonly each: ValueKey<T>;
  readonly most: number;
}

export type AnyKey = ValueKey<unknown> | TableKey<Fields> | ListKey<Fields> | NamedKey<unknown>;

export type ResultOf<K> =
  K extends ValueKey<infer T>
    ? T
    : K extends TableKey<infer F>
      ? Settings<F>
      : K extends ListKey<infer F>
        ? readonly Settings<F>[]
        : K extends NamedKey<infer T>
          ? Readonly<Record<string, T>>
          : never;

/** The parsed values, by the names of the keys. */
export type Settings<F extends Fields> = { readonly [Name in keyof F]: ResultOf<F[Name]> };

interface ValueOptions extends Described {
  readonly allowed: string;
  readonly example: TomlLiteral;
  readonly unit?: string;
}

function valueKey<T>(
  schema: z.ZodType<T>,
  { unit = null, ...options }: Omit<ValueOptions, 'unit'> & { readonly unit?: string | null },
  rest: Pick<ValueKey<T>, 'preset' | 'isRequired' | 'otherwise'>,
): ValueKey<T> {
  return { kind: 'value', schema, ...options, ...rest, unit };
}

/** With the value that applies if it is left out. */
export function preset<T>(
  schema: z.ZodType<T>,
  options: ValueOptions & { readonly preset: TomlLiteral },
): ValueKey<T> {
  return valueKey(schema, options, { preset: options.preset, isRequired: false, otherwise: '' });
}

/** Null if it is left out. @param options.otherwise what applies then */
export function optional<T>(
  schema: z.ZodType<T>,
  { otherwise, ...options }: ValueOptions & { readonly otherwise: string },
): ValueKey<T | null> {
  return valueKey<T | null>(schema, options, { preset: undefined, isRequired: false, otherwise });
}

export function required<T>(schema: z.ZodType<T>, options: ValueOptions): ValueKey<T> {
  return valueKey(schema, options, {
    preset: undefined,
    isRequired: true,
    otherwise: 'none: it is required',
  });
}

/** Text that a parser reads, with the parser's own message. */
export function parsedBy<T>(parse: (text: string) => T): z.ZodType<T, string> {
  return z
    .string()
    .max(4096)
    .transform((text, context): T => {
      try {
        return parse(text);
      } catch (error) {
        if (!isStillpointError(error)) throw error;
        context.addIssue({ code: 'custom', message: error.reason, params: { remedy: error.remedy } });
        return z.NEVER;
      }
    });
}
