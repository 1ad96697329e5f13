/** Who needs which records: exactly while all fit, and within the stated error where only a sample does. */
import { createHash } from 'node:crypto';
import test from 'ava';
import { type Ownership, OwnerTable } from '../../../src/store/usage/owner-table.js';

/** Devices 1 and 2 are of agent 1, device 3 is of agent 2. */
const agentOf = (device: number) => (device === 3 ? 2 : 1);

interface Row {
  readonly digest: Buffer;
  readonly bytes: number;
  readonly devices: readonly number[];
}

function rows(count: number): Row[] {
  return Array.from({ length: count }, (_, i) => {
    const digest = createHash('sha256').update(`record ${i}`).digest();
    const which = 1 + ((digest[31] ?? 0) % 7);
    const devices = [1, 2, 3].filter((device) => (which & (1 << (device - 1))) !== 0);
    return { digest, bytes: 100 + (digest[30] ?? 0) * 50, devices };
  });
}

function measure(all: readonly Row[], table: OwnerTable): Ownership {
  for (const device of [1, 2, 3]) {
    for (const { digest, bytes, devices } of all) {
      if (!devices.includes(device) || !table.counts(digest, 0)) continue;
      // Twice: points of one device share most of their records.
      for (const _ of [1, 2]) table.add(digest, 0, { device, agent: agentOf(device) }, agentOf, () => bytes);
    }
  }
  return table.result();
}

const sum = (all: readonly Row[], has: (devices: readonly number[]) => boolean) =>
  all.filter(({ devices }) => has(devices)).reduce((bytes, row) => bytes + row.bytes, 0);

function expected(all: readonly Row[]) {
  const only = (device: number) => sum(all, (devices) => devices.length === 1 && devices[0] === device);
  return {
    devices: [1, 2, 3].map(only),
    agent: sum(all, (devices) => devices.join() === '1,2'),
    several: sum(all, (devices) => devices.includes(3) && devices.length > 1),
    total: sum(all, () => true),
  };
}

test('each record is counted once, with all that need it', (t) => {
  const all = rows(5000);
  const table = new OwnerTable(all.length);
  t.is(table.scale, 1);
  const { ofDevice, ofAgent, ofSeveralAgents, total } = measure(all, table);
  const { devices, agent, several, total: whole } = expected(all);
  t.deepEqual(
    [1, 2, 3].map((device) => ofDevice.get(device)?.bytes),
    devices,
  );
  t.deepEqual([...ofAgent], [[1, { bytes: agent, errorBytes: 0 }]]);
  t.deepEqual(ofSeveralAgents, { bytes: several, errorBytes: 0 });
  t.deepEqual(total, { bytes: whole, errorBytes: 0 });
});

test('of more records than fit a sample is counted, and the error that it says is small and true', (t) => {
  const all = rows(60_000);
  const table = new OwnerTable(all.length, 2 ** 14);
  t.is(table.scale, 8);
  const { ofDevice, ofSeveralAgents, total } = measure(all, table);
  const { devices, several, total: whole } = expected(all);
  for (const [part, exact] of [
    ...devices.map((bytes, i) => [ofDevice.get(i + 1), bytes] as const),
    [ofSeveralAgents, several] as const,
    [total, whole] as const,
  ]) {
    const { bytes = 0, errorBytes = 0 } = part ?? {};
    // These digests never change: the estimate is always the same one.
    t.true(errorBytes > 0 && errorBytes < exact / 10, `${bytes} ± ${errorBytes} of ${exact}`);
    t.true(Math.abs(bytes - exact) <= 1.5 * errorBytes, `${bytes} ± ${errorBytes} of ${exact}`);
  }
});

test('a table that is too full says so', (t) => {
  const table = new OwnerTable(1);
  const all = rows(5000);
  t.throws(() => measure(all, table), { message: /more records than expected/ });
});
