/** What the settings of several devices are together. */
import test from 'ava';
import { unitedRate, unitedRest } from '../../../src/agent/group/united.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';

const device = (name: string, changes = {}) => deviceNamed('/dev', name, changes);
const wall = { program: 'wall', graceMs: 5, isRequired: false };

test('hooks each once and in order, the shortest freeze, the longest of what programs need', (t) => {
  const rest = unitedRest('db', [
    device('a', { hooks: ['/x', '/y'], freezeDeadlineMs: 900, quiet: { quietMs: 5, deadlineMs: 90 } }),
    device('b', { hooks: ['/y', '/z'], freezeDeadlineMs: 300, quiet: { quietMs: 7, deadlineMs: 80 } }),
    device('c', { hookDeadlineMs: 70, announce: wall }),
    device('d', { hookDeadlineMs: 80, announce: { ...wall, graceMs: 9, isRequired: true } }),
  ]);
  t.deepEqual(rest, {
    ...{ name: 'db', hooks: ['/x', '/y', '/z'], freeze: 'auto', freezeDeadlineMs: 300, hookDeadlineMs: 80 },
    quiet: { quietMs: 7, deadlineMs: 90 },
    announce: { program: 'wall', graceMs: 9, isRequired: true },
  });
  t.deepEqual(unitedRest('db', [device('a')]), {
    ...{ name: 'db', hooks: [], freeze: 'auto', freezeDeadlineMs: undefined, hookDeadlineMs: undefined },
    ...{ quiet: undefined, announce: undefined },
  });
});

test('mount points of all; what one instant can not have is refused', (t) => {
  const freezeOf = (...wishes: unknown[]) =>
    unitedRest(
      'db',
      wishes.map((freeze, i) => device(`d${i}`, { freeze })),
    ).freeze;
  t.deepEqual(freezeOf(['/m', '/n'], ['/n', '/o']), ['/m', '/n', '/o']);
  t.deepEqual(freezeOf(['/m'], 'none'), ['/m']);
  t.is(freezeOf('none', 'none'), 'none');
  t.throws(() => freezeOf('auto', 'none'), { code: 'config', message: /d0 and d1 .* "freeze"/ });
  const other = { ...wall, program: '/usr/bin/tell' };
  t.throws(() => unitedRest('db', [device('a', { announce: wall }), device('b', { announce: other })]), {
    ...{ code: 'config', message: /a and b .* "announce"/ },
  });
});

test('the link is held to the lowest limit', (t) => {
  const limit = (otherwise: number | null) => ({ windows: [], otherwise });
  const devices = [null, limit(9_000), limit(5_000), limit(null)].map((limitRate, i) =>
    device(`d${i}`, { limitRate }),
  );
  t.is(unitedRate(devices, 0)?.otherwise, 5_000);
  t.is(unitedRate([device('a')], 0), null);
});
