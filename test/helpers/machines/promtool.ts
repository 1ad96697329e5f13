/** Prometheus' own checks: what scripts/setup --test has fetched, else the machine's; null: there is none. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const OWN = 'build/tools';

export const PROMTOOL: string | null =
  [OWN, ...(process.env.PATH ?? '').split(delimiter)]
    .map((directory) => join(directory, 'promtool'))
    .find((path) => existsSync(path)) ?? null;
