/** What a receiver records by itself: restores as a whole, and never more than others may cause. */
import test, { type ExecutionContext } from 'ava';
import { Attempts } from '../../../src/receiver/access/attempts.js';
import { AuditLog } from '../../../src/receiver/audit/log.js';
import { readAudit } from '../../../src/receiver/audit/read.js';
import { Trail } from '../../../src/receiver/audit/trail.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

async function make(t: ExecutionContext) {
  const dir = await tempDir(t);
  const clock = { ms: 1_000_000 };
  const trail = new Trail(new AuditLog({ dir }), () => clock.ms);
  const entries = async () => {
    await trail.close();
    const all = [];
    for await (const entry of readAudit(dir)) all.push(entry);
    return all;
  };
  return { trail, clock, entries };
}

test('a restore has one entry at its first blocks, and one with all bytes when no more come', async (t) => {
  const { trail, clock, entries } = await make(t);
  const read = { agent: 'host', device: 'disk', point: 'disk@1', address: '192.0.2.1' };
  for (let i = 0; i < 5; i += 1) {
    trail.blocksRead({ ...read, bytes: 100 });
    clock.ms += 60_000;
    trail.look();
  }
  trail.blocksRead({ ...read, agent: 'other', bytes: 7 });
  clock.ms += 299_000;
  trail.look();
  trail.blocksRead({ ...read, bytes: 1 });
  t.like(await entries(), [
    { what: 'restore-begin', agent: 'host', point: 'disk@1', address: '192.0.2.1' },
    { what: 'restore-begin', agent: 'other' },
    { what: 'restore-end', agent: 'host', bytes: 500 },
    { what: 'restore-begin', agent: 'host' },
    { what: 'restore-end', agent: 'other', bytes: 7 },
    { what: 'restore-end', agent: 'host', bytes: 1 },
  ]);
});

test('a restore is told whatever else its agent had entered, and an operator always is', async (t) => {
  const { trail, entries } = await make(t);
  const verify = { who: 'agent', what: 'verify', result: 'done', agent: 'host' } as const;
  for (let i = 0; i < 1000; i += 1) trail.note(verify);
  for (let i = 0; i < 310; i += 1)
    trail.blocksRead({ agent: 'host', device: 'disk', point: `disk@${i}`, address: undefined, bytes: 10 });
  trail.note({ who: 'operator', what: 'order', result: 'done', agent: 'host' });
  const all = await entries();
  const of = (what: string) => all.filter((entry) => entry.what === what);
  t.is(of('restore-begin').length, 300);
  t.is(of('restore-end').length, 301);
  t.is(
    of('restore-end').reduce((sum, { bytes = 0 }) => sum + bytes, 0),
    3100,
  );
  t.like(of('restore-end').at(-1), { agent: 'host', count: 10, bytes: 100 });
  t.is(of('order').length, 1);
});

test('addresses of one IPv6 network count together', async (t) => {
  const { trail, entries } = await make(t);
  for (let i = 0; i < 100; i += 1)
    trail.refused({ who: 'stranger', detail: 'no' }, `2001:db8::${i.toString(16)}`);
  t.is((await entries()).filter(({ what }) => what === 'refused').length, 20);
  const attempts = new Attempts(() => 0);
  for (let i = 0; i < 10; i += 1) attempts.failed(`2001:db8::${i.toString(16)}`);
  t.throws(() => attempts.admit('2001:db8::ffff'), { code: 'busy' });
  t.notThrows(() => attempts.admit('2001:db8:0:1::1'));
});

test('strangers and agents cause a bounded number of entries, and the rest is counted', async (t) => {
  const { trail, clock, entries } = await make(t);
  for (let i = 0; i < 100; i += 1) trail.refused({ who: 'stranger', detail: 'no' }, '192.0.2.1');
  for (let i = 0; i < 1000; i += 1) trail.refused({ who: 'stranger', detail: 'no' }, `addr-${i}`);
  trail.look();
  clock.ms += 600_000;
  trail.refused({ who: 'stranger', detail: 'no' }, '192.0.2.1');
  const all = await entries();
  const refused = all.filter(({ what }) => what === 'refused');
  t.is(refused.filter(({ address }) => address === '192.0.2.1').length, 21);
  t.is(refused.length, 501);
  t.like(
    all.filter(({ what }) => what === 'log-suppressed'),
    [{ count: 600 }],
  );
});
