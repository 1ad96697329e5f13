import test from 'ava';
import fc from 'fast-check';
import { decodeInviteCode, encodeInviteCode } from '../../../src/protocol/certificates/invite-code.js';

const PIN = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const SECRET = Buffer.from('f0e1d2c3b4a5968778695a4b3c2d1e0f', 'hex');
const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));

test('a code reads back, however it is typed', (t) => {
  fc.assert(
    fc.property(bytes16, bytes16, (pin, secret) => {
      const code = encodeInviteCode({ pin, secret });
      t.regex(code, /^([0-9A-HJKMNP-TV-Z]{4}-){13}[0-9A-HJKMNP-TV-Z]{4}$/);
      const typed = code.toLowerCase().replaceAll('-', ' ').replaceAll('0', 'o').replaceAll('1', 'l');
      t.deepEqual(decodeInviteCode(` ${typed}\n`), { pin, secret });
    }),
  );
});

test('any one wrong or exchanged character is a typing mistake, not another code', (t) => {
  const code = encodeInviteCode({ pin: PIN, secret: SECRET }).replaceAll('-', '');
  for (let i = 0; i < code.length; i += 1) {
    const wrong = code[i] === '7' ? '8' : '7';
    t.throws(() => decodeInviteCode(code.slice(0, i) + wrong + code.slice(i + 1)), {
      code: 'invite-invalid',
    });
    const exchanged = code.slice(0, i) + (code[i + 1] ?? '') + (code[i] ?? '') + code.slice(i + 2);
    if (exchanged !== code) t.throws(() => decodeInviteCode(exchanged), { code: 'invite-invalid' });
  }
});

test('what is no code at all is refused with what is wrong with it', (t) => {
  const code = encodeInviteCode({ pin: PIN, secret: SECRET });
  t.throws(() => decodeInviteCode(''), { message: /0 letters and digits/ });
  t.throws(() => decodeInviteCode(code.slice(0, -1)), { message: /55 letters and digits/ });
  t.throws(() => decodeInviteCode(`${code}A`), { message: /57 letters and digits/ });
  t.throws(() => decodeInviteCode(`U${code.slice(1)}`), { message: /"U" occurs in no code/ });
});
