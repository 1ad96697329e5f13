/** The project's own files and what they import, for the tests that hold its shape. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const ROOMS = ['.ci', 'bench', 'bin', 'docs', 'native', 'packaging', 'scripts', 'src', 'test'];
const FILES = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'package.json',
  'biome.json',
  'tsconfig.json',
  'binding.gyp',
  '.editorconfig',
  '.npmrc',
];

/** Paths relative to the checkout's root, which AVA runs in. */
export function projectFiles(): string[] {
  const inRooms = ROOMS.filter((room) => statSync(room, { throwIfNoEntry: false })?.isDirectory()).flatMap(
    (room) =>
      readdirSync(room, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
  );
  const atRoot = FILES.filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
  return [...atRoot, ...inRooms].sort();
}

/** Module names that a TypeScript file imports: static, dynamic, re-exported, types too. */
export function importsOf(file: string): string[] {
  return ts
    .preProcessFile(readFileSync(file, 'utf8'), true, true)
    .importedFiles.map((found) => found.fileName);
}

/** The source file that a relative import means. */
export function resolveImport(from: string, name: string): string {
  return join(dirname(from), name).replace(/\.js$/, '.ts');
}

/** A way that leads back to where it began; null: there is none. */
export function circleIn(edges: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (node: string, way: readonly string[]): string[] | null => {
    if (way.includes(node)) return [...way.slice(way.indexOf(node)), node];
    if (done.has(node)) return null;
    for (const next of edges.get(node) ?? []) {
      const circle = visit(next, [...way, node]);
      if (circle !== null) return circle;
    }
    done.add(node);
    return null;
  };
  for (const node of edges.keys()) {
    const circle = visit(node, []);
    if (circle !== null) return circle;
  }
  return null;
}
