import test from 'ava';
import { agentProgress, sentAgain } from '../../../src/cli/output/agent-progress.js';
import { Output } from '../../../src/cli/output/output.js';

test('each pass is told with its number and what was sent again; other phases are not', (t) => {
  for (const json of [true, false]) {
    let [text, ms] = ['', 0];
    const sink = { isTTY: false, columns: 80, write: (more: string) => (text += more) };
    const output = new Output({ json, quiet: false, stdout: sink, stderr: sink, now: () => ms });
    const { onEvent, end } = agentProgress(output);
    const progress = () => {
      ms += 60_000;
      onEvent({ type: 'progress', doneBytes: 1024, totalBytes: 4096, wireBytes: 0 });
    };
    onEvent({ type: 'phase', phase: 'scan' });
    onEvent({ type: 'pass', pass: 2, toReadBytes: 4096, sentAgainBytes: 512 });
    progress();
    onEvent({ type: 'phase', phase: 'prove' });
    progress();
    end();
    const [pass = '', prove = ''] = text.split('\n');
    if (json) {
      t.like(JSON.parse(pass), { event: 'progress', stage: 'scan', pass: 2, sentAgainBytes: 512 });
      t.is((JSON.parse(prove) as { pass?: number }).pass, undefined);
    } else {
      t.regex(pass, /^backing up, pass 2: 25% 1 KiB of 4 KiB/);
      t.regex(prove, /^proving/);
    }
  }
});

test('what was sent again is said, if there was any', (t) => {
  t.deepEqual(sentAgain({}), []);
  t.deepEqual(sentAgain({ passes: 2, sentAgainBytes: 0 }), []);
  t.deepEqual(sentAgain({ passes: 1, sentAgainBytes: 1024 }), [
    '1 KiB that changed after they were sent, in 1 pass',
  ]);
  t.regex(sentAgain({ passes: 3, sentAgainBytes: 1024 }).join(), /in 3 passes$/);
});
