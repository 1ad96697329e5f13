/**
 * Patches where the base's blocks are damaged in the store, or too many for the
 * memory that there is for them.
 */

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB, PATCHED_BYTES_MAX } from '../../../src/domain/base/limits.js';
import { splitPieces } from '../../../src/domain/blocks/pieces.js';
import { ENTRY_PATCH, native } from '../../../src/native/index.js';
import { ByteBudget } from '../../../src/protocol/transport/byte-budget.js';
import { QUOTA_DEFAULT } from '../../../src/receiver/access/quota.js';
import type { Quotas } from '../../../src/receiver/access/quotas.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { BaseBlocks } from '../../../src/receiver/sessions/base-blocks.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { backUp, block, blocksOf, newSessionId } from '../../conformance/receiver.js';
import { encodeTestBatch } from '../../helpers/bytes/batches.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { changePieces, encodeTestPatch } from '../../helpers/bytes/patches.js';
import { beginRequest, GEOMETRY } from '../../helpers/bytes/requests.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

async function makeStore(t: ExecutionContext): Promise<{ dir: string; store: Store }> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir);
  t.teardown(() => store.close());
  return { dir, store };
}

/** Flips a bit of the stored bytes of this block. */
async function damage(dir: string, content: Buffer): Promise<void> {
  const digest = PLAIN.leafDigest(content);
  for (const name of await readdir(join(dir, 'packs'), { recursive: true })) {
    const path = join(dir, 'packs', name);
    const bytes = await readFile(path).catch(() => Buffer.alloc(0));
    // In a record of its own, not as a leaf in a node.
    const header = Buffer.from('SPR1\x01', 'latin1');
    let at = bytes.indexOf(digest);
    while (at >= 0 && !bytes.subarray(at - 16, at - 11).equals(header)) at = bytes.indexOf(digest, at + 1);
    if (at < 0) continue;
    bytes[at + 100] = (bytes[at + 100] ?? 0) ^ 1;
    await writeFile(path, bytes);
    return;
  }
  throw new Error('no pack has the block');
}

function patchOf(
  sessionId: string,
  sequence: number,
  blockIndexes: readonly number[],
  blockSize?: number,
): Buffer {
  const blocks = blockIndexes.map((index) =>
    changePieces(blockSize === undefined ? block(index, 1) : Buffer.alloc(blockSize, index + 1), [2]),
  );
  return encodeTestBatch({
    ...{ sessionId, sequence },
    entries: blocks.map((bytes, i) => ({
      ...{ blockIndex: blockIndexes[i] ?? 0, kind: ENTRY_PATCH, digest: PLAIN.leafDigest(bytes) },
    })),
    patches: blocks.map((bytes) => encodeTestPatch({ block: bytes, pieces: [2] })),
  });
}

test('a damaged block of the base has no digests, and takes no patch; its neighbours do', async (t) => {
  const { dir, store } = await makeStore(t);
  const service = await ReceiverService.open(store);
  t.teardown(() => service.close());
  const port = agentReceiver(service, 'host');
  await backUp(port, new Map(), blocksOf([0, 1, 2], 1));
  const sessionId = newSessionId();
  await port.begin(beginRequest({ sessionId }));
  // It rots between the question and the patch.
  const before = splitPieces(await port.pieces(sessionId, [0, 1, 2]), [65_536, 65_536, 65_536]);
  t.deepEqual(
    before?.map(({ length }) => length),
    [130, 130, 130],
  );
  await damage(dir, block(1, 1));
  const error = await t.throwsAsync(port.batch(sessionId, 1, patchOf(sessionId, 1, [0, 1])), {
    code: 'bad-patch',
  });
  t.regex(error?.message ?? '', /is damaged/);
  t.like(await port.status(sessionId), { durableSequence: 0 });
  const after = splitPieces(await port.pieces(sessionId, [0, 1, 2]), [65_536, 65_536, 65_536]);
  t.deepEqual(
    after?.map(({ length }) => length),
    [130, 2, 130],
  );
  t.deepEqual(after?.[2], before?.[2]);
  t.deepEqual(await port.batch(sessionId, 1, patchOf(sessionId, 1, [0, 2])), { durableSequence: 1 });
});

test('a damaged tree of the base has no digests', async (t) => {
  const { dir, store } = await makeStore(t);
  const service = await ReceiverService.open(store);
  t.teardown(() => service.close());
  const port = agentReceiver(service, 'host');
  await backUp(port, new Map(), blocksOf([0], 1));
  const sessionId = newSessionId();
  await port.begin(beginRequest({ sessionId }));
  const trees: string[] = [];
  for (const name of await readdir(join(dir, 'packs'), { recursive: true })) {
    const path = join(dir, 'packs', name);
    const bytes = await readFile(path).catch(() => Buffer.alloc(0));
    if (bytes.length === 0 || bytes.indexOf(PLAIN.leafDigest(block(0, 1))) === 64 + 16) continue;
    bytes.fill(0xff, 64, bytes.length - 96);
    await writeFile(path, bytes);
    trees.push(path);
  }
  t.is(trees.length, 1);
  t.is((await port.pieces(sessionId, [0])).length, 2);
  await t.throwsAsync(port.batch(sessionId, 1, patchOf(sessionId, 1, [0])), { code: 'bad-patch' });
});

test('patches that make more than a batch may are refused before anything is read', async (t) => {
  const { store } = await makeStore(t);
  const service = await ReceiverService.open(store);
  t.teardown(() => service.close());
  const port = agentReceiver(service, 'host');
  const sessionId = newSessionId();
  const geometry = { sizeBytes: 32 * MiB, blockSize: 4 * MiB };
  await port.begin(beginRequest({ sessionId, geometry }));
  const most = PATCHED_BYTES_MAX / geometry.blockSize;
  const indexes = [...Array(most + 1).keys()];
  const body = patchOf(sessionId, 1, indexes, geometry.blockSize);
  await t.throwsAsync(port.batch(sessionId, 1, body), { code: 'too-large' });
  const fewer = patchOf(sessionId, 1, indexes.slice(0, most), geometry.blockSize);
  await t.throwsAsync(port.batch(sessionId, 1, fewer), { code: 'bad-patch' });
});

test('memory for patched blocks is counted while they are made and taken, and given back whatever happens', async (t) => {
  const { store } = await makeStore(t);
  const service = await ReceiverService.open(store);
  t.teardown(() => service.close());
  const port = agentReceiver(service, 'host');
  const base = await backUp(port, new Map(), blocksOf([0, 1], 1));
  const memory = new ByteBudget(8 * MiB, 10);
  const sessionId = newSessionId();
  const description = {
    ...beginRequest({ sessionId }),
    ...{ agent: 'host', basePointId: base.id, geometry: GEOMETRY },
  };
  const blocks = new BaseBlocks({ store, base, description, memory });
  const used: number[] = [];
  await blocks.withWholeBlocks(1, patchOf(sessionId, 1, [0, 1]), async (whole) => {
    used.push(memory.usedBytes);
    const { recordRawLengths } = await native.decodeBatch(whole, {
      ...{ sessionId, sequence: 1, digester: PLAIN },
      ...GEOMETRY,
    });
    t.deepEqual([...recordRawLengths], [65_536, 65_536]);
  });
  t.deepEqual(used, [2 * 65_536]);
  t.is(memory.usedBytes, 0);
  const failing = blocks.withWholeBlocks(1, patchOf(sessionId, 1, [0]), async () => {
    throw new Error('not taken');
  });
  await t.throwsAsync(failing, { message: 'not taken' });
  await t.throwsAsync(
    blocks.withWholeBlocks(1, patchOf(sessionId, 1, [7]), async () => t.fail()),
    { code: 'bad-patch' },
  );
  t.is(memory.usedBytes, 0);
});

test('a quota counts the blocks that patches make, not the patches', async (t) => {
  const { store } = await makeStore(t);
  let storedBytes: number | null = null;
  const quotas = { of: () => ({ ...QUOTA_DEFAULT, storedBytes }) } as unknown as Quotas;
  const service = await ReceiverService.open(store, { quotas });
  t.teardown(() => service.close());
  const port = agentReceiver(service, 'host');
  await backUp(port, new Map(), blocksOf([0, 1], 1));
  const sessionId = newSessionId();
  await port.begin(beginRequest({ sessionId }));
  const body = patchOf(sessionId, 1, [0, 1]);
  storedBytes = (await service.use('host')).storedBytes + body.length;
  await t.throwsAsync(port.batch(sessionId, 1, body), { code: 'quota' });
  storedBytes += 2 * GEOMETRY.blockSize;
  await t.notThrowsAsync(port.batch(sessionId, 1, body));
});
