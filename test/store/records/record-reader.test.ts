/** Records as their packs have them, for answers. */
import test from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { packKey } from '../../../src/store/disk/layout.js';
import type { Location, RecordIndex } from '../../../src/store/index/record-index.js';
import { RECORD_HEADER_BYTES } from '../../../src/store/packs/entries.js';
import { RecordReader } from '../../../src/store/records/record-reader.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { MemoryObjectStore } from '../../helpers/fakes/memory-object-store.js';

const PACK = 'a'.repeat(32);
const STORED = 1000;
const RECORD = RECORD_HEADER_BYTES + STORED;

test('records that lie far apart take the memory of the records, and not of what is between', async (t) => {
  for (const gapBytes of [0, 100, 60 * KiB]) {
    const count = 300;
    const pack = Buffer.alloc(64 + count * (RECORD + gapBytes));
    const located = Array.from({ length: count }, (_, i): Location => {
      const offset = 64 + i * (RECORD + gapBytes);
      pack.fill(i % 251, offset, offset + RECORD);
      return { packId: PACK, packNumber: 1, offset, storedLength: STORED, rawLength: STORED, codec: 0 };
    });
    const objects = new MemoryObjectStore();
    await objects.put(packKey(PACK), pack);
    // Where they are is known here, so that no index is asked.
    const reader = new RecordReader(objects, {} as RecordIndex, PLAIN, () => undefined);
    // In no order.
    const packed = await reader.readPacked([...located].reverse());
    if (packed === null) return t.fail('none of them is missing');
    const bytes = packed.runs.reduce((sum, run) => sum + run.length, 0);
    t.true(bytes <= 2 * count * RECORD, `${bytes} bytes for ${count} records, ${gapBytes} apart`);
    for (const n of located.keys()) {
      const from = packed.recordOffsets[n] ?? -1;
      const record = packed.runs[packed.recordRuns[n] ?? -1]?.subarray(from, from + RECORD);
      t.true(record?.equals(Buffer.alloc(RECORD, (count - 1 - n) % 251)), `record ${n}`);
    }
  }
});
