/**
 * How a backup sends over a link that is known to be slow: what it puts into one batch, and what
 * it remembers of the link.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readLinkHint } from '../../../src/agent/common/link-hint.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { LinkMeter } from '../../../src/domain/session/link-meter.js';
import { native } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { BackupWorld, BLOCK } from '../../helpers/worlds/backup.js';

const COUNT = 60;

interface Sent {
  readonly entries: number;
  readonly records: number;
}

/**
 * With an image of blocks that don't shrink, and a port that notes what batches hold and
 * how many are there at once.
 */
async function watched(t: ExecutionContext) {
  const made = await BackupWorld.make(t);
  const indexes = Array.from({ length: COUNT }, (_, index) => index);
  await made.makeImage(COUNT * BLOCK, indexes);
  const batches: Sent[] = [];
  const asked: number[] = [];
  let underWay = 0;
  let most = 0;
  const receiver = new Proxy(made.receiver, {
    get: (target, name: keyof ReceiverPort) => {
      const method = (target[name] as (...args: unknown[]) => unknown).bind(target);
      if (name === 'have') {
        return (id: string, digests: Uint8Array) => {
          asked.push(digests.length / 32);
          return target.have(id, digests);
        };
      }
      if (name !== 'batch') return method;
      return async (sessionId: string, sequence: number, body: Uint8Array) => {
        const decoded = await native.decodeBatch(body, {
          ...{ sessionId, sequence, sizeBytes: COUNT * BLOCK, blockSize: BLOCK, digester: PLAIN },
        });
        batches.push({ entries: decoded.entryCount, records: decoded.recordOffsets.length });
        underWay += 1;
        most = Math.max(most, underWay);
        const answer = await target.batch(sessionId, sequence, body);
        underWay -= 1;
        return answer;
      };
    },
  });
  return { made, receiver, batches, asked, most: () => most };
}

test('on a slow link a batch is a block, two are on their way, and one question serves them all', async (t) => {
  const { made, receiver, batches, asked, most } = await watched(t);
  const meter = new LinkMeter({ now: () => performance.now(), limit: () => 7000 });
  const { point } = await made.backup({ receiver, meter });
  t.deepEqual(batches, Array(COUNT).fill({ entries: 1, records: 1 }));
  t.true(most() <= 2, `${most()}`);
  t.deepEqual(asked, [32, 28]);
  t.true((await made.contents(point)).equals(await readFile(made.image)));
  t.is(await readLinkHint(made.stateDirectory, made.storeId), null, 'the limit is no property of the link');
});

test('what the receiver holds already makes no batches of its own', async (t) => {
  const { made, receiver, batches } = await watched(t);
  await made.backup();
  // Another order of the same blocks: all differ from the base, and all are held.
  const image = await readFile(made.image);
  const blocks = Array.from({ length: COUNT }, (_, index) =>
    image.subarray(index * BLOCK, (index + 1) * BLOCK),
  );
  await writeFile(made.image, Buffer.concat(blocks.reverse()));
  const meter = new LinkMeter({ now: () => performance.now(), limit: () => 7000 });
  const { point } = await made.backup({ receiver, meter });
  t.deepEqual(batches, [
    { entries: 32, records: 0 },
    { entries: 28, records: 0 },
  ]);
  t.true((await made.contents(point)).equals(Buffer.concat(blocks)));
});

test('without a link, and on a fast one, batches are whole', async (t) => {
  const { made, receiver, batches } = await watched(t);
  await made.backup({ receiver });
  const sizes = batches.map(({ entries }) => entries).sort((a, b) => b - a);
  t.deepEqual(sizes, [(2 * MiB) / BLOCK, COUNT - (2 * MiB) / BLOCK]);
});

test('an unknown link is first given a quarter of a MiB; what it carries is remembered', async (t) => {
  const { made, receiver, batches, most } = await watched(t);
  const meter = new LinkMeter({ now: () => performance.now() });
  const metering = new Proxy(receiver, {
    get: (target, name: keyof ReceiverPort) => {
      const method = (target[name] as (...args: unknown[]) => unknown).bind(target);
      if (name !== 'batch') return method;
      return async (sessionId: string, sequence: number, body: Uint8Array) => {
        const end = meter.start();
        const answer = await target.batch(sessionId, sequence, body);
        end(body.length);
        return answer;
      };
    },
  });
  await made.backup({ receiver: metering, meter });
  t.true((batches[0]?.entries ?? 0) <= 4);
  t.true(most() <= 4);
  const hint = await readLinkHint(made.stateDirectory, made.storeId);
  t.true((hint?.bytesPerSecond ?? 0) > 0);

  const path = join(made.stateDirectory, 'stores', made.storeId, '.link.json');
  for (const damage of ['', '{}', '{"format":"stillpoint-link","version":1}']) {
    await writeFile(path, damage);
    t.is(await readLinkHint(made.stateDirectory, made.storeId), null);
  }
  await made.change(2, [5]);
  // A hint that can't be read is no reason to fail, and is replaced.
  await made.backup({ receiver: metering, meter });
  t.not(await readLinkHint(made.stateDirectory, made.storeId), null);
});
