/** The messages between the commands of a receiver and the one that serves. */
import test from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { CONTROL_VERSION, parseRequest } from '../../../src/receiver/control/messages.js';

test('a command of another release than the running receiver is told so', (t) => {
  const line = (v: number) => Buffer.from(JSON.stringify({ v, op: 'agents', later: true }));
  const error = t.throws(() => parseRequest(line(CONTROL_VERSION + 1)));
  t.true(isStillpointError(error, 'version'));
  t.regex(
    error?.message ?? '',
    new RegExp(`version ${CONTROL_VERSION + 1} .* knows ${CONTROL_VERSION}\\. .*restart the receiver`),
  );
});
