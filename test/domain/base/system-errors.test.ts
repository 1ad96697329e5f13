/**
 * The table of what the system refuses: every errno at every place has a reason and a
 * remedy that people can read.
 */
import { constants } from 'node:os';
import test from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import {
  errnoNameOf,
  NO_FACTS,
  PLACES,
  placeOf,
  systemError,
  tellErrno,
} from '../../../src/domain/base/system-errors.js';

const THING = '/srv/thing';
const CLAUSE = /^(?!.*\b(is|are) (is|are)\b)[a-z/][^\n]*[^.\s:]$/;
const SENTENCE = /^[A-Z][^\n]+\.$/;
const raw = (errno: string) =>
  Object.assign(new Error(`${errno}: some words, open '${THING}'`), { code: errno, path: THING });

/** Errnos that a user of files, devices, sockets and programs meets; these have words of their own. */
const MET =
  'ENOENT EACCES EPERM EROFS ENOSPC EDQUOT EFBIG ENAMETOOLONG ENOTDIR EISDIR ELOOP EMFILE ENFILE ENOMEM EAGAIN EIO ENXIO ENODEV EBUSY ETXTBSY ' +
  'ENOLCK EOPNOTSUPP ESTALE ENOTCONN EHOSTDOWN ENOSYS EINVAL EMLINK EXDEV ENOTEMPTY EPIPE EBADF ECONNREFUSED EADDRINUSE';

test('every errno, at every place: a clause, a sentence, nothing of Node, no defect', (t) => {
  const errnos = [
    ...Object.keys(constants.errno),
    'EHOSTDOWN',
    'EUCLEAN',
    'ENOMEDIUM',
    'ENOTBLK',
    'ESOMETHINGNEW',
  ];
  t.true(errnos.length > 70);
  for (const errno of errnos) {
    for (const place of PLACES) {
      const error = systemError(raw(errno), { thing: THING, place });
      if (error === null) return t.fail(errno);
      const at = `${errno} at ${place}: ${error.message}`;
      t.regex(error.reason, CLAUSE, at);
      t.regex(error.remedy ?? '', SENTENCE, at);
      t.is(error.message, `${THING}: ${error.reason}. ${error.remedy}`);
      t.notRegex(error.message, /defect|some words|open '|undefined/, at);
      t.is(error.message.split(THING).length, 2, at);
      t.not(error.code, 'internal');
    }
  }
});

test('what users meet has words of its own', (t) => {
  for (const errno of MET.split(' ')) {
    for (const place of PLACES)
      t.notRegex(tellErrno(errno, { thing: THING, place }).reason, new RegExp(errno), `${errno} ${place}`);
  }
  t.regex(tellErrno('EDOTDOT', { thing: THING, place: 'file' }).reason, /\(EDOTDOT\)/);
});

test('remedies fit the place', (t) => {
  const remedy = (errno: string, place: (typeof PLACES)[number]) =>
    tellErrno(errno, { thing: THING, place }).remedy;
  for (const errno of [
    'ENOENT',
    'EACCES',
    'EROFS',
    'ENOSPC',
    'EDQUOT',
    'ENOTDIR',
    'ENAMETOOLONG',
    'EOPNOTSUPP',
  ])
    t.regex(remedy(errno, 'state'), /--state/, errno);
  for (const errno of ['ENOENT', 'EACCES', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR'])
    t.regex(remedy(errno, 'temporary'), /TMPDIR/, errno);
  for (const place of PLACES) {
    t.regex(remedy('EMFILE', place), /ulimit -n/);
    t.regex(remedy('ENOMEM', place), /memory/);
    t.regex(remedy('EAGAIN', place), /ulimit -u/);
  }
});

test('the code tells programs what it is about', (t) => {
  const code = (errno: string, place: (typeof PLACES)[number]) =>
    systemError(raw(errno), { thing: THING, place })?.code;
  t.is(code('ENOENT', 'device'), 'device-not-found');
  t.is(code('EBUSY', 'target'), 'device-in-use');
  t.is(code('EIO', 'device'), 'device-io');
  t.is(code('EMFILE', 'device'), 'system');
  t.is(code('ENOSPC', 'store'), 'store-full');
  t.is(code('EROFS', 'store'), 'store-io');
  t.is(code('EROFS', 'state'), 'system');
  t.is(code('ENOSPC', 'output'), 'system');
});

test('facts about the path win over what the errno says', (t) => {
  const told = (errno: string, facts: object) =>
    tellErrno(errno, { thing: THING, place: 'target', facts: { ...NO_FACTS, ...facts } });
  const immutable = told('EPERM', { flagged: { path: THING, flag: 'immutable' } });
  t.is(immutable.reason, 'it is marked immutable');
  t.regex(immutable.remedy, /chattr -i \/srv\/thing$/);
  const append = told('EPERM', { flagged: { path: '/srv', flag: 'append-only' } });
  t.is(append.reason, '/srv is marked append-only');
  t.regex(append.remedy, /chattr -a \/srv$/);
  t.is(told('EACCES', { isReadOnlyDevice: true }).reason, 'the kernel has the device read-only');
  t.is(
    told('ENOENT', { isDanglingLink: true }).reason,
    'it is a symbolic link to something that does not exist',
  );
  t.is(told('ENOENT', { obstacle: '/srv/no' }).reason, 'the directory /srv/no does not exist');
  t.regex(
    told('ENOTDIR', { obstacle: '/srv/file' }).reason,
    /^\/srv\/file, on the path to it, is not a directory$/,
  );
  t.regex(told('EACCES', { obstacle: '/srv' }).reason, /directory \/srv/);
  t.regex(tellErrno('ENOENT', { thing: '/srv/\ufffd', place: 'device' }).reason, /not valid UTF-8/);
  // A fact that has nothing to do with the errno says nothing.
  t.is(told('EIO', { obstacle: '/srv', isReadOnlyDevice: true }).reason, told('EIO', {}).reason);
});

test('where it failed is told of what is failing', (t) => {
  const failing = systemError(Object.assign(raw('EIO'), { byteOffset: 4096 }), {
    thing: THING,
    place: 'device',
  });
  t.regex(failing?.reason ?? '', /at byte 4096$/);
  const refused = systemError(Object.assign(raw('EPERM'), { byteOffset: 0 }), {
    thing: THING,
    place: 'device',
  });
  t.notRegex(refused?.reason ?? '', /byte/);
});

test('what is a system error', (t) => {
  t.is(errnoNameOf(raw('EIO')), 'EIO');
  t.is(
    errnoNameOf(Object.assign(new Error('x'), { code: 'ERR_SYSTEM_ERROR', info: { code: 'ENOENT' } })),
    'ENOENT',
  );
  const notLoaded = (reason: string) =>
    Object.assign(new Error(`Cannot read package config x: ${reason}.`), {
      code: 'ERR_INVALID_PACKAGE_CONFIG',
    });
  t.is(errnoNameOf(notLoaded('too many open files')), 'EMFILE');
  t.is(errnoNameOf(notLoaded('it is none')), null);
  t.is(errnoNameOf(new RangeError('Array buffer allocation failed')), 'ENOMEM');
  for (const other of [
    new Error('x'),
    Object.assign(new Error('x'), { code: 'ERR_INVALID_ARG_TYPE' }),
    'EIO',
    null,
  ])
    t.is(errnoNameOf(other), null);
  t.is(systemError(new Error('x'), { thing: THING, place: 'file' }), null);
  t.false(isStillpointError(raw('EIO')));
});

test('a path tells its place', (t) => {
  const of = (path: string) => placeOf(path, { stateDirectory: '/var/lib/s', otherwise: 'device' });
  t.is(of('/var/lib/s'), 'state');
  t.is(of('/var/lib/s/stores/x'), 'state');
  t.is(of('/var/lib/service'), 'device');
  t.is(of('/proc/1/fd'), 'kernel');
  t.is(of('/sys'), 'kernel');
  t.is(of('/system'), 'device');
});
