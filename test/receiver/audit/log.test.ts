/** The audit log: its chain, what a crash leaves of it, writers beside each other, a disk that is full. */
import { appendFile, mkdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { AUDIT_PENDING_MAX } from '../../../src/domain/base/limits.js';
import type { AuditEvent } from '../../../src/receiver/audit/entry.js';
import { auditFiles, auditPath } from '../../../src/receiver/audit/files.js';
import { AuditLog } from '../../../src/receiver/audit/log.js';
import { readAudit, verifyAudit } from '../../../src/receiver/audit/read.js';
import { recordWish } from '../../../src/receiver/audit/retention.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const PIN: AuditEvent = { who: 'operator', what: 'pin', result: 'done', agent: 'host', device: 'disk' };
const note = (detail: string): AuditEvent => ({ ...PIN, what: 'session-begin', who: 'agent', detail });

async function entriesOf(dir: string) {
  const entries = [];
  for await (const entry of readAudit(dir)) entries.push(entry);
  return entries;
}

async function lastFile(dir: string): Promise<string> {
  return join(auditPath(dir), (await auditFiles(dir)).at(-1) ?? '');
}

/** No entry can be written until it is called: even root can't make a file of a directory. */
async function breakDisk(dir: string): Promise<() => Promise<void>> {
  await rm(join(auditPath(dir), 'lock'), { force: true });
  await mkdir(join(auditPath(dir), 'lock'), { recursive: true });
  return () => rm(join(auditPath(dir), 'lock'), { recursive: true });
}

async function filled(t: ExecutionContext, count: number): Promise<string> {
  const dir = await tempDir(t);
  const log = new AuditLog({ dir });
  for (let i = 1; i <= count; i += 1) await log.record({ ...PIN, count: i });
  return dir;
}

test('entries are numbered, dated and chained, by one process and by several at once', async (t) => {
  const dir = await tempDir(t);
  const now = () => new Date('2026-05-01T10:00:00.000Z');
  const logs = [1, 2, 3].map(() => new AuditLog({ dir, now }));
  await Promise.all(
    logs.flatMap((log, at) => [1, 2, 3, 4].map((i) => log.record({ ...PIN, count: 10 * at + i }))),
  );
  const entries = await entriesOf(dir);
  t.deepEqual(
    entries.map(({ n }) => n),
    Array.from({ length: 12 }, (_, i) => i + 1),
  );
  t.is(new Set(entries.map(({ count }) => count)).size, 12);
  t.like(entries[0], { at: '2026-05-01T10:00:00.000Z', who: 'operator', what: 'pin', agent: 'host' });
  t.like(await verifyAudit(dir), { entries: 12, first: 1, faults: [], tornBytes: 0 });
});

test('an entry that was changed, removed, moved or put in shows, and so does a newest one that is gone', async (t) => {
  const dir = await filled(t, 6);
  const path = await lastFile(dir);
  const lines = (await readFile(path, 'utf8')).split('\n').slice(0, -1);
  const { last } = await verifyAudit(dir);
  const verdict = async (changed: string[]) => {
    await writeFile(path, `${changed.join('\n')}\n`);
    return (await verifyAudit(dir, last)).faults.length;
  };
  t.is(await verdict(lines), 0);
  t.true((await verdict(lines.map((line, i) => (i === 3 ? line.replace('"pin"', '"forget"') : line)))) > 0);
  t.true((await verdict(lines.filter((_, i) => i !== 3))) > 0);
  t.true((await verdict([...lines.slice(0, 3), lines[4] ?? '', lines[3] ?? '', ...lines.slice(5)])) > 0);
  t.true((await verdict([...lines.slice(0, 3), lines[2] ?? '', ...lines.slice(3)])) > 0);
  t.true((await verdict([...lines.slice(0, 3), 'nothing', ...lines.slice(3)])) > 0);
  // Without its digest, which was noted elsewhere, nothing tells that there was another entry.
  t.is(await verdict(lines.slice(0, -1)), 1);
  t.deepEqual((await verifyAudit(dir)).faults, []);
});

test('what a crash left of the last write is cut, and said', async (t) => {
  for (const torn of ['{"n":4,"at":"2026', `{"n":4}\n${'\0'.repeat(100)}`, '\0'.repeat(4096)]) {
    const dir = await filled(t, 3);
    await appendFile(await lastFile(dir), torn);
    t.like(await verifyAudit(dir), { entries: 3, faults: [], tornBytes: torn.length });
    await new AuditLog({ dir }).record(PIN);
    const entries = await entriesOf(dir);
    t.deepEqual(
      entries.map(({ n, what }) => [n, what]),
      [1, 2, 3]
        .map((n): [number, string] => [n, 'pin'])
        .concat([
          [4, 'log-recovered'],
          [5, 'pin'],
        ]),
    );
    t.regex(entries[3]?.detail ?? '', new RegExp(`^${torn.length} bytes`));
    t.like(await verifyAudit(dir), { entries: 5, faults: [], tornBytes: 0 });
  }
});

test('a file whose head is torn or damaged does not stop the log, and no entry is lost', async (t) => {
  const empty = await filled(t, 2);
  await writeFile(join(auditPath(empty), '000000000003.log'), '{"format":"still');
  await new AuditLog({ dir: empty }).record(PIN);
  t.like(await verifyAudit(empty), { entries: 4, faults: [] });

  const dir = await filled(t, 3);
  const path = await lastFile(dir);
  await writeFile(path, (await readFile(path, 'utf8')).replace('stillpoint-audit', 'stillpoint-baudit'));
  await new AuditLog({ dir }).record(PIN);
  t.deepEqual(
    (await entriesOf(dir)).map(({ what }) => what),
    ['pin', 'pin', 'pin', 'log-damaged', 'pin'],
  );
  t.true((await verifyAudit(dir)).faults.length > 0);
});

test('a file that is full is followed by another, the oldest go, and the chain goes on', async (t) => {
  const dir = await tempDir(t);
  const log = new AuditLog({ dir, fileBytesMax: 600, filesMax: 3 });
  for (let i = 1; i <= 20; i += 1) await log.record({ ...PIN, count: i });
  t.is((await auditFiles(dir)).length, 3);
  const verdict = await verifyAudit(dir);
  t.deepEqual(verdict.faults, []);
  t.true(verdict.first > 1);
  t.is(verdict.last.sequence, 20);
  t.is(verdict.entries, 21 - verdict.first);
  const [, middle = ''] = await auditFiles(dir);
  await rm(join(auditPath(dir), middle));
  t.true((await verifyAudit(dir)).faults.length > 0);
});

test('an act is carried out only if its beginning is on disk, and has an end', async (t) => {
  const dir = await tempDir(t);
  const log = new AuditLog({ dir });
  const act = { who: 'operator', what: 'forget', point: 'disk@1' } as const;
  t.is(
    await log.act(
      act,
      async () => 5,
      (bytes) => ({ bytes }),
    ),
    5,
  );
  await t.throwsAsync(
    log.act(act, () => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  t.like(await entriesOf(dir), [
    { n: 1, result: 'begun' },
    { n: 2, result: 'done', of: 1, bytes: 5, point: 'disk@1' },
    { n: 3, result: 'begun' },
    { n: 4, result: 'failed', of: 3, detail: 'no' },
  ]);
  const mend = await breakDisk(dir);
  let isDone = false;
  const refused = await t.throwsAsync(
    log.act(act, async () => {
      isDone = true;
    }),
  );
  t.is((refused as { code?: string }).code, 'store-io');
  t.false(isDone);
  await mend();
  t.is(await log.record(PIN), 5, 'what was refused is not entered later');
});

test('what helps a full disk, or shuts somebody out, is done although it can not be recorded', async (t) => {
  const dir = await tempDir(t);
  const problems: (string | null)[] = [];
  const log = new AuditLog({ dir, onProblem: (reason) => problems.push(reason) });
  const mend = await breakDisk(dir);
  t.is(await log.act({ who: 'operator', what: 'collect' }, async () => 5), 5);
  t.is(await log.act({ who: 'operator', what: 'revoke', agent: 'host' }, async () => 6), 6);
  t.true(problems.some((problem) => /revoke is done although it can't be recorded/.test(problem ?? '')));
  await mend();
  await log.close();
  t.like(await entriesOf(dir), [
    { what: 'collect', result: 'done' },
    { what: 'revoke', result: 'done', agent: 'host' },
  ]);
});

test('what a command changes of retention is on disk before it is carried out', async (t) => {
  const dir = await tempDir(t);
  const log = new AuditLog({ dir });
  const seen = async () => (await entriesOf(dir)).map(({ what, result }) => `${what} ${result}`);
  const point = 'disk@1';
  for (const [wish, what] of [
    [{ to: 'forget', point, pointCount: 2 }, 'forget'],
    [{ to: 'forget-device', agent: 'host', device: 'disk' }, 'forget'],
    [{ to: 'prune', agent: null, device: null }, 'prune'],
    [{ to: 'pin', point }, 'pin'],
    [{ to: 'unpin', point }, 'unpin'],
    [{ to: 'set' }, 'setting'],
    [{ to: 'reset' }, 'setting'],
    [{ to: 'confirm-clock' }, 'setting'],
  ] as const) {
    t.is((await recordWish(log, wish, seen)).at(-1), `${what} begun`);
    t.is((await seen()).at(-1), `${what} done`);
  }
  const before = (await seen()).length;
  t.is((await recordWish(log, { to: 'show' }, seen)).length, before);
});

test('an end that can not be written is kept in memory until it can', async (t) => {
  const dir = await tempDir(t);
  const problems: (string | null)[] = [];
  const log = new AuditLog({ dir, onProblem: (reason) => problems.push(reason) });
  let mend: () => Promise<void> = async () => undefined;
  await log.act({ who: 'operator', what: 'forget' }, async () => {
    mend = await breakDisk(dir);
  });
  for (let i = 0; i < AUDIT_PENDING_MAX + 10; i += 1) log.note(note(String(i)));
  await mend();
  await log.close();
  const entries = await entriesOf(dir);
  t.like(entries[1], { what: 'log-missed', count: 11 });
  t.like(entries[2], { what: 'forget', result: 'done', of: 1 });
  t.is(entries.length, 2 + AUDIT_PENDING_MAX);
  t.is(entries.at(-1)?.detail, String(AUDIT_PENDING_MAX + 9));
  t.is(problems.length, 2);
  t.is(problems[1], null);
});

test('texts are cut, and names of others cost nothing', async (t) => {
  const dir = await tempDir(t);
  const log = new AuditLog({ dir });
  await log.record({ ...PIN, detail: '"\n\u0000'.repeat(1000) });
  const { size } = await stat(await lastFile(dir));
  t.true(size < 4096);
  t.is((await entriesOf(dir))[0]?.detail?.length, 300);
  t.like(await verifyAudit(dir), { entries: 1, faults: [] });
  await truncate(await lastFile(dir), 0);
  t.is(await log.record(PIN), 1);
});
