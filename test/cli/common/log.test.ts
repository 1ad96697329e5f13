import test from 'ava';
import { createLog } from '../../../src/cli/common/log.js';

class Sink {
  text = '';
  constructor(readonly isTTY: boolean) {}
  write(text: string): void {
    this.text += text;
  }
}

test('a journal gets JSON lines', (t) => {
  const sink = new Sink(false);
  createLog('info', sink).info({ agent: 'web1' }, 'agent enrolled');
  t.like(JSON.parse(sink.text), { level: 30, agent: 'web1', msg: 'agent enrolled' });
});

test('a terminal gets lines to read, without escape sequences from elsewhere', (t) => {
  const sink = new Sink(true);
  const log = createLog('info', sink);
  log.warn({ agent: 'we\u009bb1', bytes: 3 }, 'refused');
  t.regex(sink.text, /^\d\d:\d\d:\d\d {2}warning {2}refused {2}agent=we\\x9bb1 {2}bytes=3\n$/);
  log.error({ err: new Error('broken') }, 'failed');
  t.regex(sink.text, /ERROR {2}failed {2}err=.*broken/);
});

test('less than the level is dropped', (t) => {
  const sink = new Sink(false);
  createLog('error', sink).warn('small talk');
  t.is(sink.text, '');
});
