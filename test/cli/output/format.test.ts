import test from 'ava';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatInstant,
  formatTable,
  printable,
} from '../../../src/cli/output/format.js';
import { parseSize } from '../../../src/domain/base/quantities.js';

test('bytes have three digits at most, and go up a unit rather than round to 1024', (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [65_536, '64 KiB'],
    [10.24 * 1024, '10.2 KiB'],
    [1023.7 * 1024, '1 MiB'],
    [1024 ** 2, '1 MiB'],
    [1.5 * 1024 ** 3, '1.5 GiB'],
    [16 * 1024 ** 4, '16 TiB'],
    [8 * 1024 ** 5, '8 PiB'],
    [8000 * 1024 ** 5, '8000 PiB'],
  ];
  for (const [bytes, text] of cases) t.is(formatBytes(bytes), text);
});

test('durations', (t) => {
  const cases: [number, string][] = [
    [0, '0.0 s'],
    [420, '0.4 s'],
    [9_940, '9.9 s'],
    [9_960, '10 s'],
    [59_400, '59 s'],
    [59_600, '1 min 00 s'],
    [185_000, '3 min 05 s'],
    [7_620_000, '2 h 07 min'],
    [(3 * 24 + 4) * 3_600_000, '3 d 04 h'],
  ];
  for (const [durationMs, text] of cases) t.is(formatDuration(durationMs), text);
});

test.serial('instants are local, with their zone; what is no instant stays as it is', (t) => {
  const instant = '2026-03-01T11:00:05.078Z';
  const inZone = (zone: string, precision?: 'millisecond'): string => {
    process.env.TZ = zone;
    return formatInstant(instant, precision);
  };
  t.is(inZone('Europe/Vienna'), '2026-03-01 12:00:05+01:00');
  t.is(inZone('Asia/Kolkata', 'millisecond'), '2026-03-01 16:30:05.078+05:30');
  t.is(inZone('America/St_Johns'), '2026-03-01 07:30:05-03:30');
  t.is(inZone('UTC'), '2026-03-01 11:00:05Z');
  t.is(formatInstant('soon'), 'soon');
});

test('counts', (t) => {
  t.is(formatCount(1, 'block'), '1 block');
  t.is(formatCount(0, 'block'), '0 blocks');
  t.is(formatCount(1_234_567, 'block'), '1,234,567 blocks');
  t.is(formatCount(123_456, 'block'), '123,456 blocks');
});

test('tables are aligned and end without blanks', (t) => {
  t.deepEqual(
    formatTable(
      [{ title: 'name' }, { title: 'size', align: 'right' }, { title: 'note' }],
      [
        ['a', '1 B', ''],
        ['disk-long', '100 GiB', 'ok'],
      ],
    ),
    ['name          size  note', 'a              1 B', 'disk-long  100 GiB  ok'],
  );
});

test('control characters from elsewhere never reach a terminal', (t) => {
  t.is(printable('a\u001b[2Jb\u0007\u009bc\ttab\nline'), 'a\\x1b[2Jb\\x07\\x9bc\ttab\nline');
});

test('sizes as people write them', (t) => {
  const cases: [string, number][] = [
    ['0', 0],
    ['65536', 65_536],
    ['65536B', 65_536],
    ['64K', 65_536],
    ['64k', 65_536],
    ['64KiB', 65_536],
    ['64 KB', 65_536],
    ['1M', 1024 ** 2],
    ['2GiB', 2 * 1024 ** 3],
    ['1T', 1024 ** 4],
  ];
  for (const [text, bytes] of cases) t.is(parseSize('block size', text), bytes, text);
  for (const text of ['', 'K', '-1', '1.5M', '64KK', '1e6', '0x10', '99999999999999T']) {
    const error = t.throws(() => parseSize('block size', text), { name: 'StillpointError' }, text);
    t.is((error as { code?: string } | undefined)?.code, 'usage');
  }
});
