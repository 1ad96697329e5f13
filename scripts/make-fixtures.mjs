#!/usr/bin/env node
/**
 * Makes the fixtures of the present formats: `node scripts/make-fixtures.mjs DIR [NAME...]`, after a build;
 * NAME is store, conversation or machine. A fixture of a released version is never made again: one with
 * another number is added when a format gets a new version. test/fixtures/README.md says what is in them.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';

const ts = (path) => import(`../build/ts/${path}`);
const { createStore, openStore } = await ts('src/store/open.js');
const { main } = await ts('src/cli/main.js');
const { Transport } = await ts('src/protocol/transport/transport.js');
const { PROTOCOL_VERSION } = await ts('src/protocol/schemas/messages.js');
const { encodeDecision } = await ts('src/store/points/decision-file.js');
const { SEALED_VERSION } = await ts('src/store/disk/sealed-text.js');
const { writeKeptSession } = await ts('src/agent/state/kept-session.js');
const { writeAddress, writeLastRound, writeSchedule } = await ts('src/receiver/orders/remote-settings.js');
const device = await ts('test/helpers/worlds/store-device.js');
const groups = await ts('test/helpers/groups/store-groups.js');
const { makeBatch } = await ts('test/helpers/bytes/hand-made-batch.js');
const { TlsReceiver } = await ts('test/helpers/worlds/tls-receiver.js');
const { initReceiver } = await ts('src/receiver/access/identity.js');
const { encodeQuestion } = await ts('src/protocol/codecs/compare-codec.js');
const states = await ts('test/helpers/fixtures/former-states.js');

const out = resolve(process.argv[2] ?? '.');
const work = await mkdtemp(join(tmpdir(), 'fixtures-'));
await mkdir(out, { recursive: true });

/** Without what is made anew, and what belongs to a process. */
function pack(name, directory) {
  const left = ['index', 'lock', 'readers', 'overlay', 'collect', '*.sock', './state/taps/*/log'];
  const excluded = left.map((file) => `--exclude=${file}`);
  const owner = ['--owner=0', '--group=0', '--numeric-owner', '--sort=name', '--mtime=2026-01-01 00:00:00Z'];
  const tar = ['-c', ...excluded, ...owner, '-C', directory, '.'];
  const bytes = execFileSync('tar', tar, { maxBuffer: 2 ** 28 });
  return writeFile(join(out, name), gzipSync(bytes, { level: 9 }));
}

async function makeStore() {
  const dir = join(work, 'store');
  let second = 0;
  const now = () => new Date(Date.parse('2026-02-03T04:05:00.000Z') + 1000 * second++);
  await createStore(dir, { now });
  const store = await openStore(dir, { now });
  let before = null;
  for (const [i, state] of states.DISK_STATES.entries()) {
    await commit(store, 'alpha', 'disk', before, state, states.pointId(i));
    before = state;
  }
  const { position, records, end, audit } = states.JOURNAL;
  await commit(store, 'beta', 'disk', null, states.BETA_STATE, 'b'.repeat(32), { journal: position });
  const { journalId, clockId } = position;
  await store.journals.begin({ agent: 'beta', device: 'disk' }, journalId, clockId);
  await store.journals.append('beta', journalId, records);
  await store.journals.noteAudit('beta', journalId, audit);
  await store.journals.end('beta', journalId, end);
  const members = await groups.backUpGroup(
    store,
    states.GROUP.name,
    states.GROUP.devices.map((name) => ({ device: name, before: null, after: states.BETA_STATE })),
  );
  const points = await store.points({ agent: 'alpha', device: 'disk' });
  const removed = points.find(({ sequence }) => sequence === states.REMOVED_SEQUENCE);
  await store.removePoint(removed, 'the fixture wants a mark');
  await store.retention.change((settings) => states.withRetention(settings));
  const last = points.at(-1);
  const open = await store.createCapture(device.describe('disk', before, last.id, states.OPEN));
  await open.append(
    1,
    makeBatch(states.OPEN, 1, [{ blockIndex: 0, bytes: device.stampedBlock(9, states.BLOCK) }]),
  );
  const ended = await store.createCapture(device.describe('other', before, null, states.ENDED));
  await ended.append(
    1,
    makeBatch(states.ENDED, 1, [{ blockIndex: 7, bytes: device.stampedBlock(8, states.BLOCK) }]),
  );
  await ended.abort();
  await store.close();
  // As of a program that died before it had removed it.
  const decision = { does: 'commit', id: members[0].group.id, points: members };
  await mkdir(join(dir, 'decisions'), { recursive: true });
  await writeFile(join(dir, 'decisions', decision.id), encodeDecision(decision));
  await pack(`store-${SEALED_VERSION}.tar.gz`, dir);
}

async function commit(store, agent, name, before, after, sessionId, more = {}) {
  const base = await store.baseFor({ agent, device: name });
  const capture = await store.createCapture({
    ...device.describe(name, after, base?.id ?? null, sessionId),
    agent,
  });
  const batchCount = await device.sendChanges(capture, device.changesBetween(before, after));
  await capture.commit({ ...device.commitRequest(after, batchCount), ...more });
}

/**
 * A machine that is agent and receiver, as people set it up. `machine-1` is of a former version, which kept
 * what it offered in the state directory: no later one makes that.
 */
async function makeMachine() {
  const dir = join(work, 'machine');
  const [state, store, image] = ['state', 'store', 'disk.img'].map((name) => join(dir, name));
  await mkdir(state, { recursive: true, mode: 0o700 });
  const run = async (...args) => {
    let told = '';
    const sink = { write: (text) => (told += text) };
    const environment = { ...process.env, STILLPOINT_STATE: state, NO_COLOR: '1' };
    const code = await main(args, { stdout: sink, stderr: sink, environment, userId: 0 });
    if (code !== 0) throw new Error(`${args.join(' ')}: ${told}`);
    return told;
  };
  await run('receiver', 'init', store, '--listen', '127.0.0.1:0', '--url', 'https://receiver.example:8440');
  for (const content of states.DISK_STATES.slice(0, 2)) {
    await writeFile(image, states.imageOf(content));
    await run('backup', image, '--name', 'disk', '--block-size', '4K', '--store', store);
  }
  const receiver = new TlsReceiver(store, { openStore: (at) => openStore(at) });
  await receiver.start();
  await run('enroll', receiver.url, await receiver.invite('web'));
  await receiver.invite('spare', 100 * 365 * 24 * 3_600_000);
  await receiver.closeAll();
  await writeSchedule(store, states.SCHEDULE);
  await writeLastRound(store, 'default', states.LAST_ROUND);
  await writeAddress(store, 'web', states.ADDRESS);
  await run('agent', 'add', image, '--name', 'offered');

  const tapped = join(dir, 'tapped.img');
  await writeFile(tapped, states.imageOf(states.BETA_STATE));
  await run('tap', 'add', tapped, '--name', 'tapped', '--block-size', '4K');
  await run('backup', tapped, '--name', 'tapped', '--block-size', '4K', '--store', store);
  await run('tap', 'stop', 'tapped');
  const kept = join(state, 'stores', '0'.repeat(32), 'local', 'kept');
  await mkdir(kept, { recursive: true });
  await writeKeptSession(kept, states.KEPT_SESSION);
  await pack('machine-2.tar.gz', dir);
}

/** All messages of an agent, over TLS, as they were sent and answered. */
async function makeConversation() {
  const dir = join(work, 'receiver');
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (at) => openStore(at) });
  await receiver.start();
  const client = receiver.client(await receiver.enroll('host'), 1);
  const records = [];
  const note = (request, answer) =>
    records.push({
      path: request.path,
      headers: request.headers,
      body: request.body === null ? null : request.body.toString('base64'),
      answer: Buffer.concat(answer).toString('base64'),
    });
  const { bytes, stream } = Transport.prototype;
  Transport.prototype.bytes = async function (request, most) {
    const body = request.body === null ? null : Buffer.from(request.body);
    const answer = Buffer.from(await bytes.call(this, request, most));
    note({ ...request, body }, [answer]);
    return answer;
  };
  Transport.prototype.stream = async function* (request) {
    const chunks = [];
    for await (const chunk of stream.call(this, request)) {
      chunks.push(Buffer.from(chunk));
      yield chunk;
    }
    note(request, chunks);
  };
  await states.converse(client, encodeQuestion, makeBatch);
  Object.assign(Transport.prototype, { bytes, stream });
  await receiver.closeAll();
  const text = JSON.stringify({ protocolVersion: PROTOCOL_VERSION, records }, null, 1);
  await writeFile(join(out, `conversation-${PROTOCOL_VERSION}.json.gz`), gzipSync(text, { level: 9 }));
}

try {
  const makers = { store: makeStore, conversation: makeConversation, machine: makeMachine };
  const names = process.argv.length > 3 ? process.argv.slice(3) : Object.keys(makers);
  for (const name of names) await makers[name]();
} finally {
  await rm(work, { recursive: true, force: true });
}
