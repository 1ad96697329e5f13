import test from 'ava';
import { Output } from '../../../src/cli/output/output.js';
import { StillpointError } from '../../../src/domain/base/errors.js';

class Sink {
  text = '';
  readonly columns = 60;
  constructor(readonly isTTY = false) {}
  write(text: string): void {
    this.text += text;
  }
}

function setUp(options: { json?: boolean; quiet?: boolean; terminal?: boolean } = {}) {
  const clock = { ms: 0 };
  const stdout = new Sink();
  const stderr = new Sink(options.terminal ?? false);
  const { json = false, quiet = false } = options;
  const output = new Output({ json, quiet, stdout, stderr, now: () => clock.ms });
  const events = (): unknown[] =>
    stdout.text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as unknown);
  return { clock, stdout, stderr, output, events };
}

test('people: results on stdout, all else on stderr', (t) => {
  const { output, stdout, stderr } = setUp();
  output.note('connecting');
  output.warn('old');
  output.result({ n: 1 }, ['one line']);
  output.error(new StillpointError('device-io', { thing: 'sda', reason: 'it broke', remedy: 'Mend it.' }));
  t.is(stdout.text, 'one line\n');
  t.is(stderr.text, 'connecting\nwarning: old\nerror: sda: it broke. Mend it.\n');
});

test('programs: one object a line on stdout, nothing on stderr', (t) => {
  const { output, stderr, events } = setUp({ json: true });
  output.note('connecting');
  output.warn('old');
  output.error(new StillpointError('unreachable', { thing: 'https://r', reason: 'no route' }));
  output.result({ n: 1 }, ['one line']);
  t.deepEqual(events(), [
    { event: 'note', text: 'connecting' },
    { event: 'warning', text: 'old' },
    {
      event: 'error',
      code: 'unreachable',
      exitCode: 5,
      thing: 'https://r',
      reason: 'no route',
      remedy: null,
    },
    { event: 'result', n: 1 },
  ]);
  t.is(stderr.text, '');
});

test('where stdout carries data, nothing else goes there', (t) => {
  for (const json of [false, true]) {
    const { output, stdout, stderr } = setUp({ json });
    output.reserveStdout();
    output.note('a');
    output.result({ n: 1 }, ['b']);
    output.error(new Error('c'));
    t.is(stdout.text, '');
    t.is(stderr.text.split('\n').length, 4);
  }
});

test('quiet: warnings, errors and what was asked for', (t) => {
  const { output, stdout, stderr, clock } = setUp({ quiet: true });
  output.note('a');
  const progress = output.progress('scan', 'backup');
  clock.ms = 60_000;
  progress.update({ doneBytes: 1, totalBytes: 2 });
  progress.end();
  output.result({}, ['by the way']);
  output.result({}, ['asked for'], true);
  output.warn('w');
  t.is(stdout.text, 'asked for\n');
  t.is(stderr.text, 'warning: w\n');
});

test('a bar on a terminal is redrawn in its line, at most ten times a second, and leaves nothing behind', (t) => {
  const { output, stderr, clock } = setUp({ terminal: true });
  const progress = output.progress('scan', 'backup');
  for (; clock.ms <= 1000; clock.ms += 10) progress.update({ doneBytes: clock.ms, totalBytes: 1000 });
  const draws = stderr.text.split('\r\u001b[K').length - 1;
  t.is(draws, 11);
  t.false(stderr.text.includes('\n'));
  progress.end();
  t.true(stderr.text.endsWith('\r\u001b[K'));
  const before = stderr.text.length;
  output.note('done');
  t.is(stderr.text.slice(before), 'done\n');
});

test('a line in a log every five seconds', (t) => {
  const { output, stderr, clock } = setUp();
  const progress = output.progress('scan', 'backup');
  for (; clock.ms <= 11_000; clock.ms += 100) progress.update({ doneBytes: clock.ms, totalBytes: 100_000 });
  t.is(stderr.text.split('\n').length - 1, 2);
  t.false(stderr.text.includes('\r') || stderr.text.includes('\u001b'));
});

test('progress for programs names its stage and carries figures', (t) => {
  const { output, clock, events } = setUp({ json: true });
  const progress = output.progress('scan', 'backup');
  progress.update({ doneBytes: 0, totalBytes: 100 });
  clock.ms = 2000;
  progress.update({ doneBytes: 50, totalBytes: 100 }, { changedBlocks: 3 });
  t.deepEqual(events(), [
    {
      event: 'progress',
      stage: 'scan',
      doneBytes: 50,
      totalBytes: 100,
      bytesPerSecond: 25,
      leftMs: 2000,
      changedBlocks: 3,
    },
  ]);
});

test('an error that nobody foresaw says so, with its code', (t) => {
  const { output, stderr } = setUp();
  output.error(Object.assign(new Error('read failed'), { code: 'bad-thing' }));
  t.is(stderr.text, 'error: stillpoint: read failed (bad-thing). This is a defect; please report it.\n');
});

test('escape sequences in errors are shown, not sent', (t) => {
  const { output, stderr } = setUp();
  output.error(new StillpointError('bad-name', { thing: '\u001b]0;x\u0007', reason: 'bad' }));
  t.is(stderr.text, 'error: \\x1b]0;x\\x07: bad.\n');
});
