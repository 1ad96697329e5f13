/** Several devices at once: what people see of them, and what programs are given. */
import test from 'ava';
import type { BackupResult } from '../../../src/agent/backup/options.js';
import { groupJson, groupLines, hasWarnings, toldGroup } from '../../../src/cli/output/backup-result.js';
import { groupProgress } from '../../../src/cli/output/group-progress.js';
import { Output } from '../../../src/cli/output/output.js';
import { StillpointError } from '../../../src/domain/base/errors.js';

function shown(json: boolean) {
  let [text, ms] = ['', 0];
  const sink = { isTTY: false, columns: 80, write: (more: string) => (text += more) };
  const output = new Output({ json, quiet: false, stdout: sink, stderr: sink, now: () => ms });
  const { onEvent, end } = groupProgress(output, 'db');
  const progress = (device: string | undefined, doneBytes: number) => {
    ms += 60_000;
    onEvent({ type: 'progress', doneBytes, totalBytes: 4096, changedBytes: 512, wireBytes: 0 }, device);
  };
  for (const device of ['data', 'wal']) onEvent({ type: 'phase', phase: 'scan' }, device);
  progress('data', 1024);
  progress('wal', 1024);
  onEvent({ type: 'warning', text: 'it is slow' }, 'wal');
  onEvent({ type: 'notice', text: 'all wait' });
  end();
  return text.trimEnd().split('\n');
}

test('people see the sum of all, programs each device by its name', (t) => {
  const [one = '', both = '', ...texts] = shown(false);
  t.regex(one, /^db: 25% 1 KiB of 4 KiB/);
  t.regex(both, /^db: 25% 2 KiB of 8 KiB.* 1 KiB changed/);
  t.deepEqual(texts, ['warning: wal: it is slow', 'all wait']);
  const events = shown(true).map((line) => JSON.parse(line) as object);
  t.like(events, {
    length: 4,
    0: { event: 'progress', stage: 'scan', device: 'data', doneBytes: 1024, totalBytes: 4096 },
    1: { event: 'progress', stage: 'scan', device: 'wal' },
    2: { event: 'warning', text: 'it is slow', device: 'wal' },
  });
  t.deepEqual(events[3], { event: 'note', text: 'all wait' });
});

test('of one device, as the agent makes it, all is as without a group', (t) => {
  let text = '';
  const sink = { isTTY: false, columns: 80, write: (more: string) => (text += more) };
  let ms = 0;
  const output = new Output({ json: true, quiet: false, stdout: sink, stderr: sink, now: () => ms });
  const { onEvent } = groupProgress(output, 'data');
  onEvent({ type: 'phase', phase: 'scan' });
  ms = 60_000;
  onEvent({ type: 'progress', doneBytes: 1, totalBytes: 2, wireBytes: 0 });
  const event = JSON.parse(text) as object;
  t.like(event, { event: 'progress', stage: 'scan', doneBytes: 1 });
  t.false('device' in event);
});

test('a group point is one line, then who was left out, then its members', (t) => {
  const point = (device: string, sequence: number) => ({
    ...{ device, sequence, kind: 'filesystem', instant: '2026-05-01T02:00:00.000Z', baseSequence: null },
    ...{ statistics: { changedBytes: 0, durationMs: 0 }, geometry: { sizeBytes: 4096 }, storedBytes: 0 },
    providerFacts: {},
  });
  const result = (device: string, sequence: number, warnings: string[] = []) =>
    ({
      ...{ point: point(device, sequence), warnings, wireBytes: 7, tracking: null },
      base: { start: 'empty', reason: 'it is the first' },
    }) as unknown as BackupResult;
  const group = { id: '0'.repeat(32), name: 'db', sequence: 3, memberCount: 2 };
  const results = [result('data', 7), result('wal', 4)];
  const whole = toldGroup({ group, results, leftOut: [] });
  t.false(hasWarnings(whole));
  t.true(hasWarnings(toldGroup({ group, results: [result('data', 1, ['bad sectors'])], leftOut: [] })));
  const error = new StillpointError('device-not-found', { thing: '/dev/log', reason: 'it is not there' });
  const told = toldGroup({ group, results, leftOut: [{ device: 'log', error }] });
  t.true(hasWarnings(told));
  const lines = groupLines(told);
  t.regex(lines[0] ?? '', /^db@3: committed, filesystem, 2026-05-01 .*: data@7, wal@4$/);
  t.is(lines[1], '  left out log, /dev/log: it is not there');
  t.regex(lines[2] ?? '', /^data@7: committed, filesystem, /);
  t.true(lines.some((line) => line.startsWith('wal@4: committed')));
  t.like(groupJson(told), {
    ...{ group: { name: 'db', sequence: 3 }, members: { length: 2, 1: { point: { device: 'wal' } } } },
    leftOut: { length: 1, 0: { device: 'log', code: 'device-not-found', thing: '/dev/log' } },
  });
});
