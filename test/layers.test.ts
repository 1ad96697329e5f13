/** Holds the layers of docs/architecture.md: imports run downwards only, and each foreign power has one room. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { importsOf, projectFiles, resolveImport } from './helpers/source-files.js';

/** What each room may import of ours, besides itself. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  native: [],
  devices: ['native', 'domain'],
  config: ['native', 'domain'],
  tap: ['devices', 'config', 'native', 'domain'],
  capture: ['tap', 'devices', 'config', 'native', 'domain'],
  protocol: ['native', 'domain'],
  store: ['native', 'domain'],
  agent: ['capture', 'tap', 'devices', 'protocol', 'store', 'config', 'native', 'domain'],
  receiver: ['capture', 'protocol', 'store', 'config', 'native', 'domain'],
  cli: ['agent', 'receiver', 'capture', 'tap', 'devices', 'protocol', 'store', 'config', 'native', 'domain'],
};

/** Modules that speak the protocols of a network. */
const NETWORK = /^(fastify|node:(http|https|http2|tls|dgram))(\/|$)/;

const sources = projectFiles().filter((file) => file.startsWith('src/') && file.endsWith('.ts'));
const roomOf = (file: string): string => file.split('/')[1] ?? '';

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
    importsOf(file)
      .filter((name) => name.startsWith('.'))
      .map((name) => resolveImport(file, name))
      .filter((target) => roomOf(target) !== roomOf(file) && !BELOW[roomOf(file)]?.includes(roomOf(target)))
      .map((target) => `${file} imports ${target}`),
  );
  t.deepEqual(upwards, []);
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

test('only the protocol and the receiver know HTTP and TLS', (t) => {
  t.deepEqual(importers(NETWORK, ['protocol', 'receiver']), []);
});

test('sockets are known where HTTP is, and to the tap, for those of its own machine', (t) => {
  t.deepEqual(importers(/^node:net$/, ['protocol', 'receiver', 'tap']), []);
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
