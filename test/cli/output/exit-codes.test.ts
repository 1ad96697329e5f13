import test from 'ava';
import {
  EXIT_CODE_HELP,
  EXIT_DAMAGED,
  EXIT_FAILED,
  EXIT_NO_ACCESS,
  EXIT_USAGE,
  exitCodeOf,
} from '../../../src/cli/output/exit-codes.js';
import { type ErrorCode, StillpointError } from '../../../src/domain/base/errors.js';

const of = (code: ErrorCode): number => exitCodeOf(new StillpointError(code, { thing: 'x', reason: 'y' }));

test('errors have the exit code of their kind', (t) => {
  t.is(of('bad-geometry'), EXIT_USAGE);
  t.is(of('store-damaged'), EXIT_DAMAGED);
  t.is(of('unreachable'), EXIT_NO_ACCESS);
  t.is(of('invite-expired'), EXIT_NO_ACCESS);
  t.is(of('device-in-use'), EXIT_FAILED);
  t.is(of('internal'), EXIT_FAILED);
  t.is(exitCodeOf(new Error('unforeseen')), EXIT_FAILED);
});

test('the help names every code', (t) => {
  for (const code of ['0', '1', '2', '3', '4', '5', '130', '143'])
    t.regex(EXIT_CODE_HELP, new RegExp(`\\b${code}\\b`));
});
