import test from 'ava';
import { BadDelta, parseThinDelta } from '../../../src/domain/volume/thin-delta.js';
import { seededRandom } from '../../helpers/seed.js';

/** As thin_delta 0.9 and 1.0 print it. */
const REAL = `<superblock uuid="" time="3" transaction="5" data_block_size="128" nr_data_blocks="0">
  <diff left="3" right="5">
    <different begin="0" length="1"/>
    <same begin="1" length="3"/>
    <different begin="4" length="1"/>
    <right_only begin="5" length="16"/>
    <same begin="128" length="1"/>
    <left_only begin="6399" length="1"/>
  </diff>
</superblock>
`;
const WHAT = { before: 3, after: 5, sizeBytes: 6400 * 65_536 };

test('all but the same may differ; neighbours are one range', (t) => {
  const ranges = [
    [0, 1],
    [4, 21],
    [6399, 6400],
  ];
  t.deepEqual(parseThinDelta(REAL, WHAT), { blockBytes: 65_536, ranges });
  const none = REAL.replace(/^ {4}.*\n/gm, '');
  t.deepEqual(parseThinDelta(none, WHAT).ranges, []);
});

test('what is cut off, of other volumes, out of order or of an unknown form is refused', (t) => {
  const rows: [RegExp, string][] = [
    [/compares nothing/, ''],
    [/compares nothing/, REAL.replace(/ {2}<diff.*\n/, '')],
    [/other volumes/, REAL.replace('right="5"', 'right="6"')],
    [/other volumes/, REAL.replace('left="3"', 'left="5"')],
    [/cut off/, REAL.replace('</superblock>\n', '')],
    [/cut off/, REAL.split('\n').slice(0, 5).join('\n')],
    [/not of the known form/, REAL.slice(0, 150)],
    [/unknown element, moved/, REAL.replace('<left_only', '<moved')],
    [/has no length/, REAL.replace(' length="16"', '')],
    [/has no begin/, REAL.replace('begin="5"', 'begin="-5"')],
    [/out of order/, REAL.replace('begin="5"', 'begin="3"')],
    [/out of order/, REAL.replace('length="16"', 'length="0"')],
    [/out of order/, REAL.replace('begin="6399"', 'begin="6400"')],
    [/blocks of 512 bytes/, REAL.replace('data_block_size="128"', 'data_block_size="1"')],
  ];
  for (const [message, text] of rows)
    t.throws(() => parseThinDelta(text, WHAT), { instanceOf: BadDelta, message }, String(message));
});

test('no text that is cut off or changed is taken for a whole one with fewer differences', (t) => {
  const random = seededRandom(t);
  const whole = parseThinDelta(REAL, WHAT).ranges;
  for (let at = 0; at < REAL.trimEnd().length; at += 1)
    t.throws(() => parseThinDelta(REAL.slice(0, at), WHAT), { instanceOf: BadDelta });
  for (let round = 0; round < 300; round += 1) {
    const line = random.below(10);
    const lines = REAL.split('\n');
    lines.splice(line, 1);
    try {
      const { ranges } = parseThinDelta(lines.join('\n'), WHAT);
      // Only a line of a range can be missing unseen, which the program does not leave out.
      t.true(line >= 2 && line <= 7 && ranges.length <= whole.length);
    } catch (error) {
      t.true(error instanceof BadDelta);
    }
  }
});
