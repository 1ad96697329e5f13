import test from 'ava';
import fc from 'fast-check';
import { defaultName } from '../../../src/config/default-name.js';
import { checkName } from '../../../src/domain/base/names.js';

test('a name is the readable path', (t) => {
  t.is(defaultName('/dev/sdb1'), 'dev-sdb1');
  t.is(defaultName('/dev/mapper/vg-root'), 'dev-mapper-vg-root');
  t.is(defaultName('/srv/vm1.raw'), 'srv-vm1.raw');
});

test('what a name can not hold is told apart by a digest', (t) => {
  t.regex(defaultName('/srv/\u65e5\u672c.img'), /^srv-.img-[0-9a-f]{8}$/);
  t.not(defaultName('/srv/\u65e5\u672c.img'), defaultName('/srv/\u4e2d\u56fd.img'));
  t.not(defaultName('/srv/caf\u00e9.img'), defaultName('/srv/cafe\u0301.img'));
  t.not(defaultName('/srv/my disk.img'), defaultName('/srv/my-disk.img'));
  t.not(defaultName('/srv/.disk'), defaultName('/srv/disk'));
  const long = `/srv/${'x'.repeat(80)}`;
  t.not(defaultName(`${long}/a.img`), defaultName(`${long}y/a.img`));
});

test('every path gives a name, and paths that differ in more than dashes and slashes give different ones', (t) => {
  const part = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
    .filter((text) => !/[/\0]/.test(text));
  const path = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join('/')}`);
  const withoutDashes = (text: string): string => text.replaceAll('/', '-');
  fc.assert(
    fc.property(path, path, (one, other) => {
      for (const name of [one, other].map(defaultName)) t.is(checkName('device name', name), name);
      if (withoutDashes(one) !== withoutDashes(other)) t.not(defaultName(one), defaultName(other));
    }),
  );
});
