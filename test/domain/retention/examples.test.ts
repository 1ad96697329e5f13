/** The example of docs/retention.md, as it is printed there. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { zoneCalendar } from '../../../src/domain/retention/calendar.js';
import { planRetention } from '../../../src/domain/retention/plan.js';
import { makePoint } from '../../helpers/bytes/points.js';

test('the example of the document is what the plan says', (t) => {
  const text = readFileSync('docs/retention.md', 'utf8');
  const [, options = '', now = ''] = /An example, for `([^`]+)` on (.+) UTC:/.exec(text) ?? [];
  const policy = Object.fromEntries(
    [...options.matchAll(/--keep-([a-z])([a-z]+) (\d+)/g)].map(([, first = '', rest, count]) => [
      `keep${first.toUpperCase()}${rest}`,
      Number(count),
    ]),
  );
  t.is(Object.keys(policy).length, 4);
  const rows = [...text.matchAll(/^\| data@(\d+) \| (\S+ \S+) \| (stays|goes) \| ([^|]+) \|$/gm)];
  t.is(rows.length, 8);
  const points = rows.map(([, sequence, time = '']) =>
    makePoint({ sequence: Number(sequence), committedAt: `${time.replace(' ', 'T')}:00.000Z` }),
  );
  const plan = planRetention(points, {
    ...{ policy, calendar: zoneCalendar('UTC'), nowMs: Date.parse(`${now.replace(' at ', 'T')}:00.000Z`) },
    ...{ clockDoubt: null, lockMs: 0, pinOf: () => null, useOf: () => null, isDamaged: () => false },
  });
  for (const [i, [row = '', , , verdict = '', why = '']] of rows.entries()) {
    const planned = plan[i];
    t.is(planned?.stays ? 'stays' : 'goes', verdict, row);
    const texts = planned?.reasons.map((reason) => reason.text) ?? [];
    if (verdict === 'stays') {
      const rules = texts
        .filter((reason) => reason.startsWith('keep-'))
        .map((reason) => reason.split(':')[0]);
      t.deepEqual(rules, why.split(', '), row);
    } else {
      const period = why.split(' ')[0] ?? '';
      t.true(
        texts.some((reason) => reason.endsWith(` stands for ${period}`)),
        `${row}: ${texts.join('; ')}`,
      );
    }
  }
});
