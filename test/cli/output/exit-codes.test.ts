import { readFileSync } from 'node:fs';
import test from 'ava';
import {
  EXIT_CODE_HELP,
  EXIT_DAMAGED,
  EXIT_FAILED,
  EXIT_NO_ACCESS,
  EXIT_USAGE,
  EXITS,
  exitCodeOf,
  isFailure,
} from '../../../src/cli/output/exit-codes.js';
import { ERROR_CODES, ERRORS } from '../../../src/domain/base/error-codes.js';
import { type ErrorCode, StillpointError } from '../../../src/domain/base/errors.js';

const of = (code: ErrorCode): number => exitCodeOf(new StillpointError(code, { thing: 'x', reason: 'y' }));

test('errors have the exit code of their kind', (t) => {
  for (const code of ERROR_CODES) t.is(of(code), EXITS[ERRORS[code].exit].code, code);
  t.is(of('bad-geometry'), EXIT_USAGE);
  t.is(of('store-damaged'), EXIT_DAMAGED);
  t.is(of('unreachable'), EXIT_NO_ACCESS);
  t.is(of('invite-expired'), EXIT_NO_ACCESS);
  t.is(of('device-in-use'), EXIT_FAILED);
  t.is(of('internal'), EXIT_FAILED);
  t.is(exitCodeOf(new Error('unforeseen')), EXIT_FAILED);
  t.true(ERROR_CODES.every((code) => isFailure(of(code))));
});

test('codes differ, and only those of the table say that it is done', (t) => {
  const rows = Object.values(EXITS);
  t.is(new Set(rows.map(({ code }) => code)).size, rows.length);
  for (const { code, isDone } of rows) t.is(isFailure(code), !isDone, String(code));
  t.true(isFailure(99));
});

test('the help and the README name every code', (t) => {
  for (const { code, meaning } of Object.values(EXITS))
    t.regex(EXIT_CODE_HELP, new RegExp(`^  ${code} +${meaning.replace(/[()]/g, '\\$&')}$`, 'm'));
  const [, table = ''] = readFileSync('README.md', 'utf8').split('| exit code | meaning |\n|---|---|\n');
  const [rows = ''] = table.split('\n\n');
  const documented = rows.split('\n').flatMap((line) => line.split('|')[1]?.split(',') ?? []);
  t.deepEqual(
    documented.map(Number),
    Object.values(EXITS).map(({ code }) => code),
  );
});
