/** Every code of the table is in use, and users are told what it means. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import ts from 'typescript';
import { EXITS } from '../../../src/cli/output/exit-codes.js';
import { ERROR_CODES, ERRORS } from '../../../src/domain/base/error-codes.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { projectFiles } from '../../helpers/source-files.js';

/** Texts of all string literals below a node. */
function literalsIn(node: ts.Node): string[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  const found: string[] = [];
  node.forEachChild((child) => void found.push(...literalsIn(child)));
  return found;
}

/**
 * What a file may give to `new StillpointError` as a code: literals, or, where it is an expression,
 * any literal of the file.
 */
function codesThrownIn(file: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
  const codes: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isNewExpression(node) && node.expression.getText(source) === 'StillpointError') {
      const [code] = node.arguments ?? [];
      if (code !== undefined) codes.push(...literalsIn(ts.isStringLiteral(code) ? code : source));
    }
    node.forEachChild(visit);
  };
  visit(source);
  return codes;
}

test('every code is thrown somewhere', (t) => {
  const sources = projectFiles().filter((file) => file.startsWith('src/') && file.endsWith('.ts'));
  const thrown = new Set(sources.flatMap(codesThrownIn));
  t.deepEqual(
    ERROR_CODES.filter((code) => !thrown.has(code)),
    [],
  );
});

test('docs/errors.md has the row of every code, and no other', (t) => {
  const rows = readFileSync('docs/errors.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  t.deepEqual(
    rows,
    ERROR_CODES.map((code) => {
      const { exit, httpStatus, permanent, meaning } = ERRORS[code];
      const duration = permanent ? 'permanent' : 'temporary';
      return `| \`${code}\` | ${meaning} | ${EXITS[exit].code} | ${duration} | ${httpStatus} |`;
    }),
  );
});

test('statuses are those of errors, and meanings are sentences', (t) => {
  for (const code of ERROR_CODES) {
    const { httpStatus, meaning } = ERRORS[code];
    t.true(httpStatus >= 400 && httpStatus < 600, code);
    t.regex(meaning, /^[A-Z][^.]*\.$/, code);
  }
});

test('an error lasts as its row says, unless it says otherwise', (t) => {
  const details = { thing: 'x', reason: 'y' };
  for (const code of ERROR_CODES) {
    t.is(new StillpointError(code, details).permanent, ERRORS[code].permanent);
    for (const permanent of [true, false])
      t.is(new StillpointError(code, { ...details, permanent }).permanent, permanent);
  }
});
