/**
 * Holds what a reader may expect of every file: short, finished, free of the machine that it
 * was written on, and in use.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { importsOf, projectFiles, resolveImport } from './helpers/source-files.js';

const LINES_MAX = 400;
const COMMENT_WIDTH_MAX = 110;
const CODE = /\.(ts|js|mjs|cc|h|sh|txt)$|^scripts\/[a-z-]+$/;
const files = projectFiles();
const code = files.filter((file) => CODE.test(file));
const text = (file: string): string => readFileSync(file, 'utf8');

/** Files with a line that the pattern matches, as file:line. */
function hits(candidates: readonly string[], pattern: RegExp): string[] {
  return candidates.flatMap((file) =>
    text(file)
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}`] : [])),
  );
}

// Spelled so that this file does not hit itself.
const word = (...parts: string[]): string => parts.join('');

test(`no file of code is longer than ${LINES_MAX} lines`, (t) => {
  const long = code.filter((file) => text(file).split('\n').length > LINES_MAX + 1);
  t.deepEqual(long, []);
});

/** Comments of a file that are too wide, as file:line. Code is as wide as its formatter lets it be. */
function wideComments(file: string): string[] {
  const isCode = /\.(ts|js|mjs|cc|h)$/.test(file);
  const whole = isCode ? /^\s*(\/\/|\/\*|\*)/ : /^\s*#/;
  return text(file)
    .split('\n')
    .flatMap((line, index) => {
      if (line.length <= COMMENT_WIDTH_MAX) return [];
      // Behind code: what is not in quotes, and no part of an address.
      const behind = isCode && /\s\/\/\s/.test(line.replace(/(["'`])(?:\\.|(?!\1).)*\1/g, ''));
      return whole.test(line) || behind ? [`${file}:${index + 1}`] : [];
    });
}

test(`comments are at most ${COMMENT_WIDTH_MAX} characters wide`, (t) => {
  t.deepEqual(
    code.flatMap((file) => wideComments(file)),
    [],
  );
});

test('nothing is left to do', (t) => {
  const marks = new RegExp(
    `\\b(${word('TO', 'DO')}|${word('FIX', 'ME')}|${word('X', 'XX')})\\b|^\\s*${word('debug', 'ger')}\\b`,
  );
  t.deepEqual(hits(code, marks), []);
});

test('no test is alone, or switched off without the reason that it finds on this machine', (t) => {
  const tests = files.filter((file) => file.endsWith('.test.ts'));
  const off = new RegExp(
    `\\b${word('te', 'st')}(\\.serial)?\\.(only|skip|todo|failing)\\b(?!.*\\(skipped: \\$)`,
  );
  t.deepEqual(hits(tests, off), []);
});

test('nothing tells of the machine that it was written on', (t) => {
  const paths = `(^|[\\s'"\`(=])/(${['work', 'root', 'home'].join('|')})/`;
  const addresses = '\\b(10\\.\\d+|192\\.168|172\\.(1[6-9]|2\\d|3[01]))\\.\\d+\\.\\d+\\b';
  const texts = files.filter((file) => CODE.test(file) || /\.(md|json|gyp|yml)$/.test(file));
  t.deepEqual(hits(texts, new RegExp(`${paths}|${addresses}`)), []);
});

test('the lock files name no registry', (t) => {
  for (const lock of ['package-lock.json', 'scripts/runtime/package-lock.json'])
    t.false(/https?:\/\/[^"]*\.tgz"/.test(text(lock)), lock);
});

test('the type checker and the linter are not silenced', (t) => {
  const typescript = code.filter((file) => file.endsWith('.ts'));
  const silenced = new RegExp(
    `@ts-(${word('ig', 'nore')}|nocheck)|biome-ignore lint/suspicious/noExplicitAny`,
  );
  t.deepEqual(
    hits(
      typescript.filter((file) => file !== 'test/tidy.test.ts'),
      silenced,
    ),
    [],
  );
});

test('every source file is reached from the command line', (t) => {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file) || !existsSync(file)) return;
    reached.add(file);
    for (const name of importsOf(file)) if (name.startsWith('.')) visit(resolveImport(file, name));
  };
  visit('src/cli/main.ts');
  visit('src/native/testing.ts');
  t.deepEqual(
    files.filter((file) => /^src\/.*(?<!\.d)\.ts$/.test(file) && !reached.has(file)),
    [],
  );
});

test('source files print only through the command line', (t) => {
  const sources = files.filter((file) => file.startsWith('src/') && file.endsWith('.ts'));
  t.deepEqual(
    hits(sources, /\bconsole\.|process\.exit\(/).filter((hit) => !hit.startsWith('src/cli/')),
    [],
  );
});

test('shell scripts stop at the first error, parse, and can be run', (t) => {
  const scripts = files.filter((file) => /^#!.*\b(ba)?sh\b/.test(text(file).slice(0, 40)));
  t.true(scripts.length >= 3);
  for (const script of scripts) {
    // A script of JavaScript that sh may start has its part for sh in a comment.
    const [part = ''] = text(script).split('\n*/;\n', 1);
    const [interpreter = '', ...lines] = part.split('\n');
    const strict = interpreter.endsWith('bash') ? 'set -euo pipefail' : 'set -eu';
    t.true(lines.includes(strict), `${script}: ${strict}`);
    t.is(spawnSync('bash', ['-n'], { input: part }).status, 0, script);
    t.not(statSync(script).mode & 0o111, 0, `${script} is not executable`);
  }
});

test('documents mention only files that exist', (t) => {
  const missing = files
    .filter((file) => file.endsWith('.md'))
    .flatMap((file) => {
      const named = [
        ...text(file).matchAll(/`((?:\.ci|bench|bin|docs|native|packaging|scripts|src|test)\/[\w./-]*)`/g),
      ];
      const linked = [...text(file).matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)/g)];
      return [
        ...named.map(([, path = '']) => path),
        ...linked.map(([, path = '']) => join(dirname(file), path)),
      ]
        .filter((path) => !existsSync(path))
        .map((path) => `${file} mentions ${path}`);
    });
  t.deepEqual(missing, []);
});

test('the glossary says of every term what it means and where it lives, once', (t) => {
  const rows = text('docs/glossary.md')
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|( term |-)/.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  t.true(rows.length > 80);
  const wrong = rows.filter(
    ([, term = '', meaning = '', where = '', ...rest]) =>
      term === '' || !meaning.endsWith('.') || !existsSync(where.slice(1, -1)) || rest.length !== 1,
  );
  t.deepEqual(wrong, []);
  const terms = rows.flatMap(([, term = '']) => term.split(', '));
  t.deepEqual(
    terms.filter((term, index) => terms.indexOf(term) !== index),
    [],
  );
});
