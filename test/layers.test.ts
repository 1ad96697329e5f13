/**
 * Holds the layers of docs/architecture.md: imports run downwards only, and each foreign power has one room.
 */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import test from 'ava';
import { circleIn, importsOf, projectFiles, resolveImport } from './helpers/source-files.js';

/** What each room may import of ours, besides itself: just what it needs. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  native: [],
  devices: ['native', 'domain'],
  config: ['native', 'domain'],
  tap: ['devices', 'config', 'native', 'domain'],
  track: ['devices', 'native', 'domain'],
  capture: ['tap', 'track', 'devices', 'config', 'native', 'domain'],
  monitor: ['config', 'domain'],
  protocol: ['native', 'domain'],
  store: ['native', 'domain'],
  agent: ['capture', 'track', 'tap', 'devices', 'protocol', 'store', 'monitor', 'config', 'native', 'domain'],
  receiver: ['protocol', 'store', 'monitor', 'config', 'native', 'domain'],
  cli: [
    'agent',
    'receiver',
    'capture',
    'track',
    'tap',
    'devices',
    'protocol',
    'store',
    'monitor',
    'config',
    'native',
    'domain',
  ],
};

/**
 * The floors of rooms that have folders: which of its room's folders each may import ('': the room's own
 * files). Lower floors come first.
 */
const FLOORS: Readonly<Record<string, readonly string[]>> = {
  'domain/base': [],
  'domain/blocks': ['base'],
  'domain/tree': ['base', 'blocks'],
  'domain/journal': ['base'],
  'domain/volume': ['blocks'],
  'domain/live': ['base'],
  'domain/point': ['base', 'blocks', 'journal', 'tree'],
  'domain/moment': ['base', 'journal', 'point'],
  'domain/device': ['base', 'blocks', 'point'],
  'domain/order': ['base', 'point'],
  'domain/group': ['order', 'point'],
  'domain/retention': ['base', 'point'],
  'domain/session': ['base', 'blocks', 'tree', 'point'],
  'domain/usage': ['point'],
  'domain/map': ['blocks'],
  'domain/scrub': [],
  'domain/notice': ['base'],
  'native/border': [],
  native: ['border'],
  'devices/system': [],
  'devices/facts': ['system'],
  'devices/locks': ['system'],
  'tap/source': [],
  'tap/control': ['source'],
  'tap/registry': ['source'],
  tap: ['source', 'control', 'registry'],
  'capture/quiesce': [],
  capture: ['quiesce'],
  'capture/providers/offline': [''],
  'capture/providers/lvm': ['', 'quiesce'],
  'capture/providers/tap': ['', 'quiesce'],
  'capture/providers/reflink': ['', 'quiesce'],
  'capture/providers/live': ['', 'quiesce'],
  'capture/group': ['', 'quiesce'],
  'capture/choice': [
    '',
    'quiesce',
    'providers/live',
    'providers/lvm',
    'providers/offline',
    'providers/reflink',
    'providers/tap',
  ],
  'monitor/metrics': [],
  'monitor/notify': [],
  monitor: ['metrics', 'notify'],
  'protocol/certificates': [],
  'protocol/codecs': [],
  'protocol/schemas': [],
  'protocol/messages': ['codecs', 'schemas'],
  'protocol/port': ['messages'],
  'protocol/transport': ['certificates', 'messages', 'schemas'],
  protocol: ['certificates', 'messages', 'port', 'schemas', 'transport'],
  'store/port': [],
  'store/disk': ['port'],
  'store/objects': ['port', 'disk'],
  'store/packs': ['disk', 'objects'],
  'store/index': ['port', 'disk', 'packs'],
  'store/records': ['disk', 'objects', 'packs', 'index'],
  'store/points': ['port', 'disk', 'objects', 'packs', 'index', 'records'],
  'store/capture': ['port', 'disk', 'objects', 'packs', 'index', 'records', 'points'],
  'store/collect': ['port', 'disk', 'objects', 'packs', 'records', 'points', 'capture'],
  'store/upkeep': ['port', 'disk', 'objects', 'packs', 'index', 'records', 'points'],
  'store/retention': ['port', 'disk'],
  'store/journals': ['port', 'disk', 'objects'],
  'store/usage': ['disk', 'objects', 'packs', 'index', 'records'],
  'store/reading': [
    'port',
    'disk',
    'objects',
    'packs',
    'index',
    'records',
    'points',
    'capture',
    'journals',
    'upkeep',
    'usage',
  ],
  'config/toml': [],
  'config/schema': ['toml'],
  'config/load': ['toml', 'schema'],
  config: ['toml', 'schema', 'load'],
  store: [
    ...['port', 'disk', 'objects', 'index', 'records', 'points', 'capture', 'collect', 'upkeep', 'retention'],
    ...['journals', 'reading'],
  ],
  'agent/common': [],
  'agent/state': [],
  'agent/tree': ['common', 'state'],
  'agent/send': ['common', 'state', 'tree'],
  'agent/backup': ['common', 'state', 'tree', 'send'],
  'agent/group': ['common', 'state', 'backup'],
  'agent/compare': ['common', 'state', 'tree', 'backup'],
  'agent/orders': ['common', 'backup', 'group', 'compare'],
  'agent/journal': ['common'],
  'agent/daemon': ['common', 'backup', 'group', 'journal'],
  'agent/watch': ['common', 'daemon'],
  'agent/control': ['common', 'daemon'],
  'agent/map': ['common'],
  'agent/target': [],
  'agent/restore': ['common', 'state', 'tree', 'target'],
  'receiver/access': [],
  'receiver/audit': ['access'],
  'receiver/orders': ['access', 'audit'],
  'receiver/retention': [],
  'receiver/upkeep': [],
  'receiver/journals': [],
  'receiver/control': ['access', 'groups', 'orders', 'retention', 'upkeep'],
  'receiver/groups': ['access', 'audit', 'orders'],
  'receiver/sessions': ['access', 'audit', 'groups', 'journals', 'orders'],
  'receiver/watch': ['access', 'groups', 'orders'],
  receiver: [
    'access',
    'audit',
    'groups',
    'journals',
    'orders',
    'retention',
    'control',
    'sessions',
    'upkeep',
    'watch',
  ],
  'cli/output': [],
  'cli/common': ['output'],
  'cli/options': ['common'],
  'cli/service': ['common', 'output'],
  'cli/commands': ['output', 'common', 'options', 'service'],
  'cli/commands/receiver': ['output', 'common', 'options', 'service'],
  'cli/commands/looking': ['output', 'common'],
  'cli/commands/restore': ['output', 'common'],
  'cli/commands/retention': ['output', 'common', 'service'],
  cli: [
    ...['output', 'common', 'commands', 'commands/receiver', 'commands/looking', 'commands/restore'],
    'commands/retention',
  ],
};

const FILES_PER_FOLDER_MAX = 15;

/** Modules that speak the protocols of a network. */
const NETWORK = /^(fastify|node:(http|https|http2|tls|dgram))(\/|$)/;

const sources = projectFiles().filter((file) => file.startsWith('src/') && file.endsWith('.ts'));
const roomOf = (file: string): string => file.split('/')[1] ?? '';
/** The file's folder, below src/. */
const floorOf = (file: string): string => dirname(file).slice('src/'.length);
const floorBelow = (floor: string, name: string): string =>
  name === '' ? (floor.split('/')[0] ?? '') : `${floor.split('/')[0]}/${name}`;
const ownImports = (file: string): string[] =>
  importsOf(file)
    .filter((name) => name.startsWith('.'))
    .map((name) => resolveImport(file, name));

/** Who imports a module that matches, outside of the rooms that may. */
function importers(modules: RegExp, rooms: readonly string[]): string[] {
  return sources
    .filter((file) => !rooms.includes(roomOf(file)))
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => modules.test(name))
        .map((name) => `${file} imports ${name}`),
    );
}

test('every source file is in a room that has a rule', (t) => {
  t.true(sources.length > 20);
  t.deepEqual(
    sources.filter((file) => !(roomOf(file) in BELOW)),
    [],
  );
});

test('imports run downwards only', (t) => {
  const upwards = sources.flatMap((file) =>
    ownImports(file)
      .filter((target) => roomOf(target) !== roomOf(file) && !BELOW[roomOf(file)]?.includes(roomOf(target)))
      .map((target) => `${file} imports ${target}`),
  );
  t.deepEqual(upwards, []);
});

test('imports run downwards inside of rooms, too', (t) => {
  const upwards = sources.flatMap((file) =>
    ownImports(file)
      .filter((target) => roomOf(target) === roomOf(file) && floorOf(target) !== floorOf(file))
      .filter((target) => !FLOORS[floorOf(file)]?.includes(floorOf(target).slice(roomOf(target).length + 1)))
      .map((target) => `${file} imports ${target}`),
  );
  t.deepEqual(upwards, []);
});

test('nothing is allowed that nobody uses', (t) => {
  const used = new Set(
    sources.flatMap((file) =>
      ownImports(file).flatMap((target) => [
        `${roomOf(file)} > ${roomOf(target)}`,
        `${floorOf(file)} > ${floorOf(target)}`,
      ]),
    ),
  );
  const allowed = [
    ...Object.entries(BELOW).flatMap(([room, below]) => below.map((name) => `${room} > ${name}`)),
    ...Object.entries(FLOORS).flatMap(([floor, below]) =>
      below.map((name) => `${floor} > ${floorBelow(floor, name)}`),
    ),
  ];
  t.deepEqual(
    allowed.filter((rule) => !used.has(rule)),
    [],
  );
});

test('neither rooms nor floors nor files import each other in a circle', (t) => {
  t.deepEqual(circleIn(new Map(Object.entries(BELOW))), null);
  const floors = Object.entries(FLOORS).map(
    ([floor, below]) => [floor, below.map((name) => floorBelow(floor, name))] as const,
  );
  t.deepEqual(circleIn(new Map(floors)), null);
  t.deepEqual(circleIn(new Map(sources.map((file) => [file, ownImports(file)]))), null);
  t.deepEqual(circleIn(new Map(Object.entries({ a: ['b'], b: ['c'], c: ['b'] }))), ['b', 'c', 'b']);
});

test('folders are small enough to be seen at a glance', (t) => {
  const counts = new Map<string, number>();
  for (const file of projectFiles().filter((name) => /^(src|test)\//.test(name))) {
    counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  }
  const crowded = [...counts].filter(([, count]) => count > FILES_PER_FOLDER_MAX);
  t.deepEqual(crowded, []);
});

test('own files are imported by relative paths with their suffix, and exist', (t) => {
  const known = new Set(sources);
  const wrong = sources.flatMap((file) =>
    importsOf(file)
      .filter(
        (name) => name.startsWith('.') && !(name.endsWith('.js') && known.has(resolveImport(file, name))),
      )
      .map((name) => `${file} imports ${name}`),
  );
  t.deepEqual(wrong, []);
});

test('the domain is pure: it imports nothing but itself', (t) => {
  const impure = sources
    .filter((file) => roomOf(file) === 'domain')
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => !(name.startsWith('.') && roomOf(resolveImport(file, name)) === 'domain'))
        .map((name) => `${file} imports ${name}`),
    );
  t.deepEqual(impure, []);
});

test('only the protocol, the receiver, monitors and the control of an agent know HTTP and TLS', (t) => {
  const outside = importers(NETWORK, ['protocol', 'receiver', 'monitor']);
  t.deepEqual(
    outside.filter((line) => !line.startsWith('src/agent/control/')),
    [],
  );
});

test('sockets are known where HTTP is, and to the tap, for those of its own machine', (t) => {
  t.deepEqual(importers(/^node:net$/, ['protocol', 'receiver', 'monitor', 'tap']), []);
});

test('only src/native loads the addon', (t) => {
  const loaders = sources.filter((file) => /stillpoint\.node/.test(readFileSync(file, 'utf8')));
  t.deepEqual(loaders, ['src/native/addon.ts']);
});

test('no source file imports what the border has for tests', (t) => {
  const imports = (file: string): string[] => importsOf(file).map((name) => resolveImport(file, name));
  t.deepEqual(
    sources.filter((file) => imports(file).includes('src/native/testing.ts')),
    [],
  );
  const tests = projectFiles().filter((file) => /^test\/.*\.ts$/.test(file));
  t.true(tests.some((file) => imports(file).includes('src/native/testing.ts')));
});

test('only the border and the store know flock and LMDB', (t) => {
  t.deepEqual(importers(/^(lmdb|fs-ext)$/, ['native', 'store']), []);
});

test('only the command line knows commander', (t) => {
  t.deepEqual(importers(/^commander$/, ['cli']), []);
});

test('only monitors know the library of metrics', (t) => {
  t.deepEqual(importers(/^prom-client$/, ['monitor']), []);
});
