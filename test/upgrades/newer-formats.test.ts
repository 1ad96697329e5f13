/**
 * Files of a newer program: each is refused by name, with the version that it has and the one that is
 * known, and stays as it is. What is only a cache is not believed. docs/upgrades.md has both lists; every
 * file of the fixtures is in one of the tables here.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { z } from 'zod';
import { readAcknowledged } from '../../src/agent/state/acknowledged-point.js';
import { DeviceState } from '../../src/agent/state/device-state.js';
import { findEnrolment } from '../../src/agent/state/enrolment.js';
import { adoptFormerOffers } from '../../src/agent/state/former-offers.js';
import { readKeptSession } from '../../src/agent/state/kept-session.js';
import { directoryPlace, rememberStore } from '../../src/agent/state/known-stores.js';
import { pendingRequest } from '../../src/agent/state/renewal.js';
import { loadReceiverConfig } from '../../src/config/receiver-config.js';
import { writeStateFile } from '../../src/config/state-file.js';
import { isStillpointError } from '../../src/domain/base/errors.js';
import { native } from '../../src/native/index.js';
import { loadIdentity, readAuthority, readSettings } from '../../src/receiver/access/identity.js';
import { createInvite } from '../../src/receiver/access/invites.js';
import { Quotas, writeQuota } from '../../src/receiver/access/quotas.js';
import { Tenants } from '../../src/receiver/access/tenants.js';
import { finishRename } from '../../src/receiver/agent-admin.js';
import { AUDIT_VERSION } from '../../src/receiver/audit/entry.js';
import { auditFiles, auditPath } from '../../src/receiver/audit/files.js';
import { AuditLog } from '../../src/receiver/audit/log.js';
import { verifyAudit } from '../../src/receiver/audit/read.js';
import { readGroups, writeGroup } from '../../src/receiver/orders/group-settings.js';
import { readGroupRuns, writeGroupRuns } from '../../src/receiver/orders/last-group-run.js';
import {
  DEFAULT_SCHEDULE,
  readAddresses,
  readLastRound,
  readSchedules,
  writeLastRound,
} from '../../src/receiver/orders/remote-settings.js';
import { roundsOfConfiguration } from '../../src/receiver/orders/rounds-source.js';
import { nodeDisk } from '../../src/store/disk/disk.js';
import { SEALED_VERSION } from '../../src/store/disk/sealed-text.js';
import { LocalObjectStore } from '../../src/store/objects/local-object-store.js';
import { openStore, openStoreForReading } from '../../src/store/open.js';
import { readManifest } from '../../src/store/points/manifest-files.js';
import { readClock, readSettings as readRetention } from '../../src/store/retention/files.js';
import { listTaps } from '../../src/tap/registry/registry.js';
import { readMapFacts, readStart } from '../../src/tap/source/continuity-facts.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { LAST_ROUND } from '../helpers/fixtures/former-states.js';
import { type Envelope, raiseBinary, raiseSealed, raiseState } from '../helpers/fixtures/raised.js';
import { contentsOf, unpacked } from '../helpers/fixtures/unpacked.js';

/** The times of the fixture's files: what is old is swept. */
const UNPACKED_AS = new Date('2026-01-01T00:00:00.000Z');
/** Just after the fixture of the machine was made, whose invites are good for an hour. */
const NOW = new Date('2026-11-30T02:33:00.000Z');
/** A day after that of the store was: it keeps marks for a week. */
const now = () => new Date('2026-02-04T04:05:00.000Z');

interface Row {
  /** Of a file in the fixture. */
  readonly file: RegExp;
  readonly read: (dir: string, path: string) => Promise<unknown>;
}

const state = (dir: string) => join(dir, 'state');
const store = (dir: string) => join(dir, 'store');
const folder = (path: string) => path.slice(0, path.lastIndexOf('/'));

/** Files of the form of src/config/state-file.ts. */
const STATE_FILES: readonly Row[] = [
  { file: /^state\/enrolments\/\w+\/enrolment\.json$/, read: (dir) => findEnrolment(state(dir)) },
  { file: /^state\/enrolments\/default\.json$/, read: (dir) => findEnrolment(state(dir)) },
  { file: /^state\/offers\//, read: (dir) => adoptFormerOffers(state(dir), { devices: [] } as never) },
  { file: /\/acknowledged$/, read: (_, path) => readAcknowledged(folder(path)) },
  { file: /\/session$/, read: (_, path) => readKeptSession(folder(path)) },
  { file: /\/tap\.json$/, read: (dir) => listTaps(state(dir)) },
  {
    file: /^state\/known-stores\//,
    read: async (dir, path) => {
      // It is found by the place of its store, which was another one when the fixture was made.
      const place = await directoryPlace(store(dir));
      const own = createHash('sha256').update(place.key).digest('hex').slice(0, 32);
      await rename(path, join(folder(path), `${own}.json`));
      try {
        await rememberStore(state(dir), place, '1'.repeat(32));
      } finally {
        await rename(join(folder(path), `${own}.json`), path);
      }
    },
  },
  { file: /receiver\/receiver(-copy)?\.json$/, read: (dir) => readSettings(store(dir)) },
  { file: /receiver\/authority(-copy)?\.json$/, read: (dir) => readAuthority(store(dir)) },
  { file: /receiver\/server\.json$/, read: (dir) => loadIdentity(store(dir), NOW) },
  { file: /receiver\/schedule\.json$/, read: (dir) => readSchedules(store(dir)) },
  { file: /receiver\/dial-out\.json$/, read: (dir) => readAddresses(store(dir)) },
  {
    file: /receiver\/agents\//,
    // A receiver that opens it locks out this agent, and says why.
    read: (dir) => createInvite(store(dir), 'web', UNPACKED_AS),
  },
  { file: /receiver\/invites\/\w+(\.used)?\.json$/, read: enrolWithNewInvite },
];

/** With a code that is known; the fixture's own is not. */
async function enrolWithNewInvite(dir: string, path: string): Promise<void> {
  const tenants = await Tenants.open(store(dir), await readAuthority(store(dir)));
  const { code } = await createInvite(store(dir), 'new', UNPACKED_AS);
  const { decodeInviteCode } = await import('../../src/protocol/certificates/invite-code.js');
  const { secret } = decodeInviteCode(code);
  const id = createHash('sha256').update(secret).digest('hex').slice(0, 32);
  const own = join(folder(path), `${id}.json`);
  await rename(path, own);
  try {
    await tenants.enrol({ secret: secret.toString('hex'), csr: '', name: null }, NOW);
  } finally {
    await rename(own, path);
  }
}

/** Made again, or done without: nothing is believed of them. */
const CACHES: readonly Row[] = [
  {
    file: /^state\/stores\/.*\/tree$/,
    read: async (dir, path) => {
      const [, storeId = '', agent = '', device = ''] = /stores\/(\w+)\/(\w+)\/(\w+)\/tree$/.exec(path) ?? [];
      const opened = await DeviceState.open(state(dir), { storeId, agent, device }, PLAIN);
      const { tree, problem } = opened.local;
      await opened.close();
      return tree === null && /unknown version/.test(problem ?? '');
    },
  },
  {
    file: /\/map$/,
    read: async (_, path) => {
      const facts = await readMapFacts((at) => native.readTapMap(at), path);
      return facts === null || typeof facts === 'string';
    },
  },
  { file: /\/started\.json$/, read: async (_, path) => (await readStart(path)) === null },
];

/**
 * Those of a store have tables of their own below. The last round of a machine's fixture is of a former
 * place: nobody reads it there.
 */
const WITHOUT_VERSION =
  /(\.img$)|^store\/(packs|points(-copy)?)\/|^store\/retention\/|last-round\.json$|^store\/store(-copy)?\.json$/;

test('state files of a newer program are refused by name, and stay as they are', async (t) => {
  const dir = await unpacked(t, 'machine-1.tar.gz');
  const names = [...(await contentsOf(dir)).keys()];
  const known = [...STATE_FILES, ...CACHES];
  t.deepEqual(
    names.filter((name) => !WITHOUT_VERSION.test(name) && !known.some(({ file }) => file.test(name))),
    [],
    'a file that no row is about',
  );
  for (const { file, read } of STATE_FILES) {
    const found = names.filter((name) => file.test(name));
    t.true(found.length > 0, String(file));
    for (const name of found) {
      const path = join(dir, name);
      const before = await readFile(path);
      await raiseState(path, /schedule/.test(name) ? 4 : null);
      const raised = await contentsOf(dir);
      const { version } = JSON.parse(await readFile(path, 'utf8')) as Envelope;
      const error = await t.throwsAsync(read(dir, path), undefined, name);
      t.true(isStillpointError(error, 'version'), `${name}: ${error?.stack}`);
      t.regex(error?.message ?? '', new RegExp(`version ${version} .*knows ${version - 1}\\. .*newer`), name);
      t.regex(error?.message ?? '', /^\/.*(json|acknowledged|session): /, name);
      const after = await contentsOf(dir);
      t.is(after.get(name), raised.get(name), `${name} was changed`);
      await writeFile(path, before);
    }
  }
});

/** Files that the fixture does not have, as this program makes them. */
const MADE: Readonly<
  Record<
    string,
    { readonly make: (dir: string) => Promise<unknown>; readonly read: (dir: string) => Promise<unknown> }
  >
> = {
  'store/receiver/quotas.json': {
    make: (dir) => writeQuota(store(dir), 'web', { points: 7 }),
    read: (dir) => Quotas.load(store(dir)),
  },
  'store/receiver/groups.json': {
    make: (dir) =>
      writeGroup(store(dir), {
        ...{ name: 'db', missing: 'fail', members: [{ agent: 'web', device: 'disk' }] },
      }),
    read: (dir) => readGroups(store(dir)),
  },
  'store/receiver/last-round.json': {
    make: (dir) => writeLastRound(store(dir), DEFAULT_SCHEDULE, LAST_ROUND),
    read: (dir) => readLastRound(store(dir), DEFAULT_SCHEDULE),
  },
  'store/receiver/rename.json': {
    make: (dir) =>
      writeState(join(store(dir), 'receiver/rename.json'), 'stillpoint-rename', { from: 'a', to: 'b' }),
    read: (dir) => finishRename({ dir: store(dir) } as never, () => undefined),
  },
  'store/receiver/last-group-db.json': {
    make: (dir) => writeGroupRuns(store(dir), 'db', { begunAt: null, last: null }),
    read: (dir) => readGroupRuns(store(dir), 'db'),
  },
  'store/receiver/schedules-seen.json': { make: seenSchedules, read: seenSchedules },
  'renewal.json': {
    make: (dir) => writeState(join(dir, 'renewal.json'), 'stillpoint-renewal', { key: 'k', csr: 'c' }),
    read: (dir) => pendingRequest(join(dir, 'renewal.json')),
  },
};

function writeState(path: string, format: string, value: object): Promise<void> {
  return writeStateFile(path, { format, version: 1, schema: z.looseObject({}) }, value);
}

async function seenSchedules(dir: string): Promise<unknown> {
  await writeFile(join(dir, 'receiver.toml'), '[[schedule]]\nat = "daily"\n');
  const load = () => loadReceiverConfig(dir);
  return roundsOfConfiguration(store(dir), load, () => NOW).schedules();
}

test('so are those that the fixture does not have', async (t) => {
  const dir = await tempDir(t);
  await mkdir(join(store(dir), 'receiver'), { recursive: true });
  for (const [name, { make, read }] of Object.entries(MADE)) {
    await make(dir);
    const path = join(dir, name);
    await raiseState(path);
    const raised = await readFile(path, 'utf8');
    const error = await t.throwsAsync(read(dir), undefined, name);
    t.true(isStillpointError(error, 'version'), `${name}: ${error?.stack}`);
    t.is(await readFile(path, 'utf8'), raised, `${name} was changed`);
  }
});

test('an audit log of a newer program is neither written nor cut', async (t) => {
  const dir = await tempDir(t);
  const log = () => new AuditLog({ dir });
  const event = { who: 'operator', what: 'pin', result: 'done' } as const;
  await log().record(event);
  const [name = ''] = await auditFiles(dir);
  const path = join(auditPath(dir), name);
  for (const rest of ['{"of":"another form"}\n', '']) {
    const newer = `${JSON.stringify({ format: 'stillpoint-audit', version: AUDIT_VERSION + 1, more: 1 })}\n${rest}`;
    await writeFile(path, newer);
    const error = await t.throwsAsync(log().record(event));
    t.true(isStillpointError(error, 'version'), error?.stack ?? '');
    await t.throwsAsync(verifyAudit(dir), { code: 'version' });
    t.deepEqual(await auditFiles(dir), [name]);
    t.is(await readFile(path, 'utf8'), newer);
  }
});

test('caches of a newer program are not believed', async (t) => {
  const dir = await unpacked(t, 'machine-1.tar.gz');
  const names = [...(await contentsOf(dir)).keys()];
  for (const { file, read } of CACHES) {
    const found = names.filter((name) => file.test(name));
    t.true(found.length > 0, String(file));
    for (const name of found) {
      const path = join(dir, name);
      t.false(await read(dir, path), `${name} is believed as it is`);
      if (name.endsWith('.json')) await raiseState(path);
      else await raiseBinary(path);
      // A map has two headers, of which one may count.
      if (name.endsWith('map') && (await stat(path)).size >= 8192) {
        const bytes = await readFile(path);
        bytes.writeUInt32LE(2, 4096 + 8);
        await writeFile(path, bytes);
      }
      t.true(await read(dir, path), `${name} of a newer program is believed`);
    }
  }
});

/** Where a store has one in spite of its version: a program that wrote it would have raised that first. */
const SEALED: readonly (readonly [name: RegExp, why: (dir: string, name: string) => Promise<string>])[] = [
  [/^points(-copy)?\/.*\/\d{10}$/, whyNoPoint],
  [/^retention\/settings(-copy)?$/, (dir, name) => whyThrown(readRetention(nodeDisk, dir, name))],
  [/^retention\/clock$/, (dir) => whyThrown(readClock(nodeDisk, dir))],
  [/^partial\/\w+$/, whyFound],
  [/^journals\/.*\/(journal|end|audits)$/, whyFound],
  [/^decisions\/\w+$/, whyIgnored],
];
/** Its name says all that it must. */
const MARK = /^points(-copy)?\/.*\.deleted$/;
/** Refused when the store is opened. */
const OPENED = /^(store(-copy)?\.json|capture\/\w+\/description)$/;

async function whyNoPoint(dir: string, name: string): Promise<string> {
  const objects = new LocalObjectStore(nodeDisk, dir);
  const { size } = await stat(join(dir, name));
  const found = await readManifest(objects, name, size);
  await objects.close();
  return 'reason' in found ? found.reason : 'it was read';
}

/** What the log says of it when the store is read. */
async function whyIgnored(dir: string): Promise<string> {
  const lines: string[] = [];
  await (await openStoreForReading(dir, { now, log: (line) => lines.push(line) })).close();
  return lines.join('\n');
}

async function whyThrown(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'it was read',
    (error: Error) => error.message,
  );
}

async function whyFound(dir: string, name: string): Promise<string> {
  const reader = await openStoreForReading(dir, { now });
  const reasons: string[] = [];
  for await (const event of reader.verify({}))
    if (event.type === 'finding' && event.what === name) reasons.push(event.reason);
  await reader.close();
  return reasons.join();
}

const REFUSED = new RegExp(
  `it has format version ${SEALED_VERSION + 1}, and this program reads .*${SEALED_VERSION}\\. Use the program that wrote it, or a newer one\\.`,
);

async function refusesStore(
  t: ExecutionContext,
  dir: string,
  name: string,
  isReadToo: boolean,
): Promise<void> {
  const before = await contentsOf(dir);
  for (const open of isReadToo ? [openStore, openStoreForReading] : [openStore]) {
    const error = await t.throwsAsync(open(dir, { now }), undefined, name);
    t.true(isStillpointError(error, 'version'), `${name}: ${error?.stack}`);
    t.regex(error?.message ?? '', REFUSED);
  }
  t.deepEqual(await contentsOf(dir), before, `${name}: something was changed`);
}

test('a store of a newer program is refused by name, and stays as it is', async (t) => {
  const dir = await unpacked(t, 'store-4.tar.gz');
  const names = [...(await contentsOf(dir)).keys()].filter(
    (name) => !/^packs\/|\/log$|\.pack$|\.records$/.test(name),
  );
  t.deepEqual(
    names.filter((name) => ![OPENED, MARK, ...SEALED.map(([file]) => file)].some((file) => file.test(name))),
    [],
  );
  const both = ['store.json', 'store-copy.json'].map((name) => join(dir, name));
  const originals = await Promise.all(both.map((path) => readFile(path)));
  for (const path of both) await raiseSealed(path);
  await refusesStore(t, dir, 'store.json', true);
  for (const [i, path] of both.entries()) await writeFile(path, originals[i] as Buffer);

  const description = names.find((name) => name.startsWith('capture/')) as string;
  const original = await readFile(join(dir, description));
  await raiseSealed(join(dir, description));
  await refusesStore(t, dir, description, false);
  await writeFile(join(dir, description), original);

  for (const [file, why] of SEALED) {
    const found = names.filter((name) => file.test(name));
    t.true(found.length > 0, String(file));
    for (const name of found) {
      const before = await readFile(join(dir, name));
      await raiseSealed(join(dir, name));
      const raised = await contentsOf(dir);
      t.regex(await why(dir, name), REFUSED, name);
      t.deepEqual(await contentsOf(dir), raised, name);
      await writeFile(join(dir, name), before);
    }
  }
});

test('a pack of another version is named, and a store that has one keeps its other points', async (t) => {
  const dir = await unpacked(t, 'store-4.tar.gz');
  const [pack = ''] = [...(await contentsOf(dir)).keys()].filter((name) => name.startsWith('packs/'));
  await raiseBinary(join(dir, pack));
  const error = await t.throwsAsync(native.readPackIndex(join(dir, pack)));
  t.regex(error?.message ?? '', /of an unknown version/);
  const store = await openStoreForReading(dir);
  t.true((await store.points({})).length > 0);
  await store.close();
});
