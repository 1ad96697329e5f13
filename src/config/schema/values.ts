/** Kinds of values that several sections have. */
import { z } from 'zod';
import { checkName } from '../../domain/base/names.js';
import { parsePeriod } from '../../domain/base/quantities.js';
import { parsedBy } from './kinds.js';

export const absolutePath = z.string().min(1).max(4096).startsWith('/');
export const paths = z.array(absolutePath).max(64);
export const flag = z.boolean();

export function wholeNumber(least: number, most: number): z.ZodType<number> {
  return z.int().min(least).max(most);
}

/** In ms. */
export function period(leastMs: number): z.ZodType<number, string> {
  return parsedBy((text) => parsePeriod('period', text, leastMs));
}

/** Seconds, whole or not, as options have them; in ms. */
export const seconds: z.ZodType<number> = z
  .number()
  .gt(0)
  .max(999_999)
  .transform((value) => Math.round(value * 1000));

export function nameOf(what: string): z.ZodType<string, string> {
  return parsedBy((text) => checkName(what, text));
}
