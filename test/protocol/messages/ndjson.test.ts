import test from 'ava';
import { z } from 'zod';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { JSON_BYTES_MAX } from '../../../src/domain/base/limits.js';
import { toStillpointError } from '../../../src/protocol/messages/error-body.js';
import { decodeLines, encodeLines } from '../../../src/protocol/messages/ndjson.js';

const schema = z.strictObject({ n: z.int() });

async function* inPieces(text: string, size: number): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function encode(values: Iterable<unknown>): Promise<string> {
  let text = '';
  for await (const line of encodeLines(values, toStillpointError)) text += line;
  return text;
}

async function decode(text: string, size = 7): Promise<unknown[]> {
  const values: unknown[] = [];
  for await (const value of decodeLines(inPieces(text, size), 'list', schema)) values.push(value);
  return values;
}

test('values come back, however the bytes are cut', async (t) => {
  const values = Array.from({ length: 20 }, (_, n) => ({ n }));
  const text = await encode(values);
  for (const size of [1, 2, 7, 1000]) t.deepEqual(await decode(text, size), values);
  t.deepEqual(await decode(''), []);
});

test('an error in the middle arrives as it was, after what came before it', async (t) => {
  function* values() {
    yield { n: 1 };
    throw new StillpointError('store-damaged', { thing: 'pack', reason: 'it is cut', remedy: 'Heal it.' });
  }
  const text = await encode(values());
  const error = await t.throwsAsync(decode(text));
  t.like(error, { code: 'store-damaged', message: 'pack: it is cut. Heal it.' });
});

test('lines that are foreign, cut off or too long are refused', async (t) => {
  for (const text of ['{"n":1}\nnull\n', '{"n":"1"}\n', 'nonsense\n', '{"n":1}\n{"n":2']) {
    await t.throwsAsync(decode(text), { code: 'bad-message' });
  }
  await t.throwsAsync(decode('x'.repeat(JSON_BYTES_MAX + 1), 65_536), { message: /too long/ });
});
