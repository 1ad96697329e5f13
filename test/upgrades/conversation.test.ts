/**
 * Recorded conversations of agents with receivers, one for each version of the protocol that a receiver
 * serves. A receiver of today answers an agent of then as it was answered then; the agent of today reads what
 * a receiver of its version answered.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import test from 'ava';
import { decodeLines } from '../../src/protocol/messages/ndjson.js';
import { MESSAGE_NAMES, MESSAGES, makePort } from '../../src/protocol/messages/table.js';
import {
  PROTOCOL_VERSION,
  PROTOCOL_VERSION_OLDEST,
  ROUTE_PREFIX,
} from '../../src/protocol/schemas/messages.js';
import { Transport } from '../../src/protocol/transport/transport.js';
import { createStore, openStore } from '../../src/store/open.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { fixturePath } from '../helpers/fixtures/unpacked.js';
import { makeTlsReceiver } from '../helpers/worlds/tls-receiver.js';

interface Exchanged {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Base 64. */
  readonly body: string | null;
  readonly answer: string;
}

async function conversation(version: number): Promise<readonly Exchanged[]> {
  const bytes = gunzipSync(await readFile(fixturePath(`conversation-${version}.json.gz`)));
  const { protocolVersion, records } = JSON.parse(bytes.toString('utf8')) as {
    protocolVersion: number;
    records: Exchanged[];
  };
  if (protocolVersion !== version) throw new Error(`it is of version ${protocolVersion}`);
  return records;
}

const versions = Array.from(
  { length: PROTOCOL_VERSION - PROTOCOL_VERSION_OLDEST + 1 },
  (_, i) => PROTOCOL_VERSION_OLDEST + i,
);

/** What differs each time: the clock, what is drawn, how packs are written. */
const VOLATILE = new Set(['storeId', 'committedAt', 'begunAt', 'lastActivityAt', 'expiresAt', 'removedAt']);

function stable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(stable);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, field]) => [key, VOLATILE.has(key) ? typeof field : stable(field)]),
  );
}

/** Lines of JSON as values; anything else as it is. Progress comes as it comes. */
function readable(bytes: Buffer): unknown {
  try {
    const values = bytes
      .toString('utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { type?: string });
    return values.filter(({ type }) => type !== 'progress').map(stable);
  } catch {
    return bytes.toString('base64');
  }
}

for (const version of versions) {
  test(`a receiver serves an agent of protocol ${version} as one of that version did`, async (t) => {
    const store = join(await tempDir(t), 'store');
    await createStore(store);
    const receiver = await makeTlsReceiver(t, { openStore: () => openStore(store) });
    const { url, receiverId, authority, key, certificate } = await receiver.enroll('host');
    const address = { url, receiverId, authority, credentials: { key, certificate } };
    const transport = new Transport(address, { connections: 1 });
    t.teardown(() => transport.close());
    for (const { path, headers, body, answer } of await conversation(version)) {
      const request = {
        path,
        headers: { ...headers, 'stillpoint-protocol': String(version) },
        body: body === null ? null : Buffer.from(body, 'base64'),
        answerTimeoutMs: 60_000,
      };
      const chunks: Buffer[] = [];
      for await (const chunk of transport.stream(request)) chunks.push(chunk);
      const [found, recorded] = [Buffer.concat(chunks), Buffer.from(answer, 'base64')].map(readable);
      t.deepEqual(found, recorded, path);
    }
  });
}

test('the agent reads what a receiver of its version answered, and no message is missing', async (t) => {
  const records = await conversation(PROTOCOL_VERSION);
  const asked = new Set(records.map(({ path }) => path.slice(ROUTE_PREFIX.length)));
  t.deepEqual(
    MESSAGE_NAMES.map((name) => MESSAGES[name].path).filter((path) => !asked.has(path)),
    [],
    'scripts/make-fixtures.mjs does not record these',
  );
  let read = 0;
  const readers = new Map<string, (record: Exchanged) => Promise<void>>();
  const argsOf = <Args extends unknown[]>(
    form: { decode(request: never): unknown[]; check(args: readonly unknown[]): Args },
    { headers, body }: Exchanged,
  ): Args => {
    const request = {
      sessionId: headers['stillpoint-session'] ?? '',
      sequence: Number(headers['stillpoint-sequence'] ?? 0),
      body: Buffer.from(body ?? '', 'base64'),
      gone: () => new AbortController().signal,
    };
    return form.check(form.decode(request as never));
  };
  const coming = ({ answer }: Exchanged) => {
    const bytes = Buffer.from(answer, 'base64');
    return {
      bytes: async () => bytes,
      chunks: async function* () {
        yield bytes;
      },
    };
  };
  makePort({
    call: (message) => {
      readers.set(message.path, async (record) => {
        await message.answer.read(coming(record), record.path, argsOf(message.request, record));
      });
      return async () => Promise.reject(new Error('not called'));
    },
    stream: (message) => {
      readers.set(message.path, async (record) => {
        argsOf(message.request, record);
        const events = decodeLines(coming(record).chunks(), message.what, message.event);
        for await (const _ of events);
      });
      return async function* () {};
    },
  });
  for (const record of records) {
    await t.notThrowsAsync(
      async () => readers.get(record.path.slice(ROUTE_PREFIX.length))?.(record),
      record.path,
    );
    read += 1;
  }
  t.true(read >= MESSAGE_NAMES.length);
});
