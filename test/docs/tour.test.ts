/** The tour shows what is really printed: its commands print the same again, but for times, sizes and ids. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { programs, testWith } from '../helpers/requirements.js';

const execute = promisify(execFile);

/** What differs between two runs; on a busy machine also lines of progress. */
function likeEveryRun(document: string): string[] {
  return document
    .split('\n')
    .filter((line) => !/^\S.*: +(\d+% \d.* of |[\d.]+ \w+, [\d.]+ \w+\/s)/.test(line))
    .map((line) =>
      line
        .replace(/\d{4}-\d\d-\d\d( \d\d:\d\d:\d\dZ)?/g, 'TIME')
        .replace(/debugfs \d.*/, 'debugfs VERSION')
        .replace(/\b[0-9a-f]{12}\b/g, 'ID')
        .replace(/\b[\d.]+ (ms|s|B|[KMG]iB)\b/g, 'SIZE')
        .replace(/^ *\d+ +\d+ {2}-$/, 'RANGE')
        .replace(/\b\d+ blocks( in \d+ ranges)?/, 'BLOCKS')
        .replace(/ {2,}/g, '  '),
    )
    .filter((line, index, lines) => line !== 'RANGE' || lines[index - 1] !== line);
}

testWith(
  programs('mke2fs', 'debugfs'),
  'the tour prints what docs/tour.md says',
  async (t: ExecutionContext) => {
    t.timeout(300_000);
    const run = execute(process.execPath, ['scripts/tour.mjs', '--print']);
    t.teardown(() => run.child.kill());
    const { stdout } = await run;
    t.deepEqual(
      likeEveryRun(stdout),
      likeEveryRun(readFileSync('docs/tour.md', 'utf8')),
      'If it is right, run node scripts/tour.mjs.',
    );
  },
);
