/** docs/monitoring.md has the tables of the code, and source files name only events that there are. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { LOG_EVENTS } from '../../../src/domain/base/log-events.js';
import { NOTICE_EVENTS } from '../../../src/domain/notice/events.js';
import { METRICS } from '../../../src/monitor/metrics/table.js';
import { projectFiles } from '../../helpers/source-files.js';

const text = readFileSync('docs/monitoring.md', 'utf8');

/** The rows of the table that begins with this line. */
function rowsAfter(head: string): string[] {
  const [, after = ''] = text.split(`${head}\n`);
  const lines = after.split('\n').slice(1);
  const end = lines.findIndex((line) => !line.startsWith('|'));
  return lines.slice(0, end === -1 ? undefined : end);
}

test('docs/monitoring.md has the row of every metric, and no other', (t) => {
  const rows = Object.entries(METRICS).map(
    ([name, { type, labels, help }]) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
  );
  t.deepEqual(rowsAfter('| metric | type | labels | meaning |'), rows);
});

test('docs/monitoring.md has the row of every event of notifications, and no other', (t) => {
  const rows = Object.entries(NOTICE_EVENTS).map(
    ([name, { of, severity, meaning, remedy }]) =>
      `| \`${name}\` | ${of.join(', ')} | ${severity} | ${meaning} | ${remedy} |`,
  );
  t.deepEqual(rowsAfter('| event | of | severity | meaning | what to do |'), rows);
});

test('docs/monitoring.md has the row of every event of logs, and no other', (t) => {
  const rows = Object.entries(LOG_EVENTS).map(([name, meaning]) => `| \`${name}\` | ${meaning} |`);
  t.deepEqual(rowsAfter('| event | meaning |'), rows);
});

test('every event of logs is logged', (t) => {
  const sources = projectFiles().filter((file) => /^src\/.*\.ts$/.test(file));
  const used = sources.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/event: '([a-z-]+)' satisfies LogEvent/g)].map(
      ([, name]) => name,
    ),
  );
  t.deepEqual([...new Set(used)].sort(), Object.keys(LOG_EVENTS).sort());
});

test('what the metrics are named follows the conventions of Prometheus', (t) => {
  for (const [name, { type, help }] of Object.entries(METRICS)) {
    t.regex(name, /^stillpoint_[a-z]+(_[a-z]+)*$/);
    t.is(name.endsWith('_total'), type === 'counter', name);
    t.regex(help, /^[A-Z0-9].*\.$/, name);
  }
});
