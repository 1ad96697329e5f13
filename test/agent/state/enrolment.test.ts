import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { findEnrolment, listEnrolments, saveEnrolment } from '../../../src/agent/state/enrolment.js';
import type { Enrolment } from '../../../src/protocol/certificates/enrolment.js';

async function stateDirectory(t: ExecutionContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'enrolment-test-'));
  t.teardown(() => rm(dir, { recursive: true }));
  return join(dir, 'state');
}

const enrolment = (number: number, changes: Partial<Enrolment> = {}): Enrolment => ({
  receiverId: String(number).padStart(32, '0'),
  url: `https://receiver-${number}:8440`,
  agent: 'host',
  authority: 'authority',
  key: 'key',
  certificate: 'certificate',
  ...changes,
});

test('without an enrolment, the way to one is named', async (t) => {
  const state = await stateDirectory(t);
  t.deepEqual(await listEnrolments(state), []);
  await t.throwsAsync(findEnrolment(state), { code: 'not-enrolled', message: /stillpoint enroll URL CODE/ });
});

test('the first receiver is the default, others are found by URL', async (t) => {
  const state = await stateDirectory(t);
  t.true(await saveEnrolment(state, enrolment(2)));
  t.false(await saveEnrolment(state, enrolment(1)));
  t.deepEqual(await listEnrolments(state), [enrolment(1), enrolment(2)]);
  t.deepEqual(await findEnrolment(state), enrolment(2));
  t.deepEqual(await findEnrolment(state, 'https://receiver-1:8440/'), enrolment(1));
  await t.throwsAsync(findEnrolment(state, 'https://receiver-3:8440'), { code: 'not-enrolled' });
  await t.throwsAsync(findEnrolment(state, 'nonsense'), { code: 'usage' });
  t.true(await saveEnrolment(state, enrolment(1), { makeDefault: true }));
  t.true(await saveEnrolment(state, enrolment(1)));
  t.deepEqual(await findEnrolment(state), enrolment(1));
});

test('enrolling again with a receiver replaces key and URL', async (t) => {
  const state = await stateDirectory(t);
  await saveEnrolment(state, enrolment(1));
  const anew = enrolment(1, { key: 'new key', url: 'https://moved' });
  await saveEnrolment(state, anew);
  t.deepEqual(await listEnrolments(state), [anew]);
});

test('keys are readable by their owner only, and nothing else is left', async (t) => {
  const state = await stateDirectory(t);
  await saveEnrolment(state, enrolment(1));
  const directory = join(state, 'enrolments', enrolment(1).receiverId);
  t.deepEqual(await readdir(directory), ['enrolment.json']);
  t.is((await stat(join(directory, 'enrolment.json'))).mode & 0o777, 0o600);
  t.is((await stat(directory)).mode & 0o777, 0o700);
});

test('a damaged enrolment is named, whichever byte is wrong', async (t) => {
  const state = await stateDirectory(t);
  await saveEnrolment(state, enrolment(1));
  const path = join(state, 'enrolments', enrolment(1).receiverId, 'enrolment.json');
  const intact = await readFile(path);
  for (let at = 0; at < intact.length - 1; at += 1) {
    const damaged = Buffer.from(intact);
    damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
    await writeFile(path, damaged);
    await t.throwsAsync(findEnrolment(state), { code: 'config', message: new RegExp(path) });
  }
  await writeFile(path, intact.subarray(0, 50));
  await t.throwsAsync(findEnrolment(state), { code: 'config' });
});
