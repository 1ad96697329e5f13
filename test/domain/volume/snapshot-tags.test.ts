import test from 'ava';
import {
  extraTags,
  keptTags,
  ourTags,
  policyOf,
  sessionTags,
  snapshotName,
} from '../../../src/domain/volume/snapshot-tags.js';

const ID = '0123456789abcdef0123456789abcdef';

test('a snapshot is ours by name and tags, of a session or kept of a point', (t) => {
  const tags = sessionTags(ID, 5000, true);
  const name = snapshotName(ID);
  t.deepEqual(ourTags(name, tags), { id: ID, isKept: false, sizeBytes: 5000, extra: [], isMapping: true });
  const { added, removed } = keptTags(ID);
  const extra: [number, number][] = Array.from({ length: 45 }, (_, index) => [
    index * 8192,
    index * 8192 + 4096,
  ]);
  const kept = [...tags.filter((tag) => !removed.includes(tag)), ...added, ...(extraTags(extra) ?? [])];
  t.deepEqual(ourTags(name, kept), { id: ID, isKept: true, sizeBytes: 5000, extra, isMapping: false });
  for (const tag of kept) t.regex(tag, /^[\w+.\-/=!:&#]{1,1024}$/);
});

test('a snapshot of somebody else is none of ours, whatever it is called', (t) => {
  const tags = sessionTags(ID, 5000, false);
  t.is(ourTags('stillpoint-old', tags), null);
  t.is(ourTags(snapshotName(ID), []), null);
  t.is(ourTags(snapshotName(ID), ['stillpoint']), null);
  t.is(ourTags(snapshotName(ID), ['stillpoint', 'stillpoint-session=x', 'stillpoint-size=1']), null);
  t.is(ourTags(snapshotName(ID), tags.slice(1)), null);
});

test('more differences than tags can hold are not held', (t) => {
  t.is(extraTags(Array.from({ length: 201 }, (_, index) => [index * 2, index * 2 + 1])), null);
});

test('what the owner of a volume wants', (t) => {
  t.deepEqual(policyOf([]), { keeps: null, startPercent: 10, maxPercent: 50 });
  t.deepEqual(policyOf(['stillpoint-keep', 'stillpoint-start=5', 'stillpoint-max=80']), {
    keeps: true,
    startPercent: 5,
    maxPercent: 80,
  });
  t.is(policyOf(['stillpoint-keep', 'stillpoint-drop']).keeps, false);
  t.deepEqual(policyOf(['stillpoint-start=90', 'stillpoint-max=0']), {
    keeps: null,
    startPercent: 90,
    maxPercent: 90,
  });
  t.is(policyOf(['stillpoint-start=1e3']).startPercent, 10);
});
