/**
 * Holds the rooms of the native code: which folder of native/core may include which, and that CMake
 * links them the same way.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import test from 'ava';
import { circleIn, projectFiles } from './helpers/source-files.js';

/** What each room of native/core includes of other rooms: no more is allowed, and each of these is used. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  base: [],
  device: ['base'],
  tree: ['base'],
  codec: ['base', 'tree'],
  scan: ['base', 'codec', 'device', 'tree'],
  reflink: ['base', 'tree'],
  restore: ['base', 'codec', 'device', 'tree'],
  track: ['base'],
  live: ['base', 'device', 'track'],
  'nbd/exports': ['base'],
  'nbd/wire': ['base', 'nbd/exports'],
  nbd: ['base', 'nbd/wire'],
  journal: ['base'],
  'tap/files': ['base'],
  'tap/maps': ['base', 'tap/files', 'tree'],
  'tap/snapshot': ['base', 'device', 'nbd/exports', 'tap/files', 'tap/maps', 'tree'],
  'tap/clock': ['base', 'tap/files'],
  'tap/journal': ['base', 'journal', 'tap/clock', 'tap/files'],
  tap: [
    ...['base', 'nbd', 'nbd/exports', 'tap/clock', 'tap/files', 'tap/journal', 'tap/maps', 'tap/snapshot'],
    ...['tree'],
  ],
  'journal/replay': ['base', 'codec', 'device', 'journal', 'tap/maps', 'tree'],
};

const FILES_MAX = 15;
const CORE = 'native/core/';
const native = projectFiles().filter((file) => /^native\/.*\.(cc|h)$/.test(file));
const core = native.filter((file) => file.startsWith(CORE));
const roomOf = (file: string): string => dirname(file).slice(CORE.length);

/** Our own files that a file includes, by their paths in the checkout. */
function includesOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/^#include "([^"]+)"/gm)].map(
    ([, path = '']) => `native/${path}`,
  );
}

/** What each key leads to, of what `edges` gives, without itself. */
function graph(edges: readonly (readonly [string, string])[]): Record<string, string[]> {
  const targets = new Map<string, Set<string>>();
  for (const [from, to] of edges) {
    const found = targets.get(from) ?? new Set();
    targets.set(from, from === to ? found : found.add(to));
  }
  return Object.fromEntries([...targets].map(([from, to]) => [from, [...to].sort()]));
}

test('every room of the core includes exactly what its rule says', (t) => {
  t.true(core.length > 50);
  const rooms = graph(
    core.flatMap((file) => {
      const targets = includesOf(file).map(roomOf);
      return [roomOf(file), ...targets].map((target) => [roomOf(file), target] as const);
    }),
  );
  t.deepEqual(rooms, Object.fromEntries(Object.entries(BELOW).map(([room, below]) => [room, [...below]])));
});

test('no room and no file of the core goes round in a circle', (t) => {
  t.deepEqual(circleIn(new Map(Object.entries(BELOW))), null);
  // A header and its .cc count as one file.
  const unit = (file: string): string => file.replace(/\.(cc|h)$/, '');
  const files = graph(native.flatMap((file) => includesOf(file).map((path) => [unit(file), unit(path)])));
  t.deepEqual(circleIn(new Map(Object.entries(files))), null);
});

test('CMake builds each room as a library above the same rooms, with all of its files', (t) => {
  const cmake = readFileSync('native/CMakeLists.txt', 'utf8');
  const rooms = [...cmake.matchAll(/^room\((\S+)(?: ABOVE ([^\n]+))?\n +FILES ([^)]+)\)/gm)].map(
    ([, room = '', above = '', files = '']) => ({ room, above: above.split(' '), files: files.split(' ') }),
  );
  for (const [room, below] of Object.entries(BELOW)) {
    const built = rooms.find((found) => found.room === room);
    t.deepEqual(built?.above.filter(Boolean).sort(), [...below], room);
    const sources = readdirSync(`${CORE}${room}`).filter((name) => name.endsWith('.cc'));
    t.deepEqual(built?.files.sort(), sources.sort(), room);
  }
});

test('the core knows nothing of Node, and includes nothing of its users', (t) => {
  const outside = core.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/^#include (?:"(?!core\/)|<(?:napi|node_api|uv)\b)[^\n]*/gm)].map(
      ([line]) => `${file}: ${line}`,
    ),
  );
  t.deepEqual(outside, []);
});

test('own files are included by their path from native/, and exist', (t) => {
  const known = new Set(native);
  const wrong = native.flatMap((file) =>
    includesOf(file)
      .filter((path) => !known.has(path))
      .map((path) => `${file} includes ${path}`),
  );
  t.deepEqual(wrong, []);
});

test(`no folder of native/ has more than ${FILES_MAX} files`, (t) => {
  const counts = new Map<string, number>();
  for (const file of native) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  t.deepEqual(
    [...counts].filter(([, count]) => count > FILES_MAX),
    [],
  );
});
