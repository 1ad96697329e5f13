import test from 'ava';
import { errorOfAnswer } from '../../../src/protocol/messages/error-body.js';

test('an error that a newer receiver made is told with its texts', (t) => {
  const body = {
    code: 'on-the-moon',
    thing: 'store',
    reason: 'it is too far',
    remedy: 'Fly.',
    permanent: false,
  };
  const error = errorOfAnswer('https://r', 500, Buffer.from(JSON.stringify({ ...body, distance: 5 })));
  t.like(error, {
    code: 'version',
    thing: 'store',
    reason: 'it is too far',
    remedy: 'Fly.',
    permanent: false,
  });
  t.is(errorOfAnswer('https://r', 500, Buffer.from('{"code":"busy"}')).code, 'bad-message');
});
