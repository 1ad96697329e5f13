import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import test from 'ava';
import { runDirectory, stateDirectory } from '../../src/config/state-directory.js';

test('what is asked for comes first, then the environment, then the place of the user', (t) => {
  const environment = { STILLPOINT_STATE: '/srv/state', XDG_STATE_HOME: '/srv/xdg' };
  t.is(stateDirectory('/srv/asked', environment, 0), '/srv/asked');
  t.is(stateDirectory(undefined, environment, 0), '/srv/state');
  t.is(stateDirectory(undefined, { XDG_STATE_HOME: '/srv/xdg' }, 0), '/var/lib/stillpoint');
  t.is(stateDirectory(undefined, { XDG_STATE_HOME: '/srv/xdg' }, 1000), '/srv/xdg/stillpoint');
  t.is(stateDirectory(undefined, {}, 1000), join(homedir(), '.local/state/stillpoint'));
});

test('relative paths: made absolute where asked for, ignored in XDG_STATE_HOME', (t) => {
  t.is(stateDirectory('state', {}, 0), resolve('state'));
  t.is(
    stateDirectory(undefined, { XDG_STATE_HOME: 'xdg' }, 1000),
    join(homedir(), '.local/state/stillpoint'),
  );
});

test('an empty variable is none', (t) => {
  t.is(stateDirectory(undefined, { STILLPOINT_STATE: '' }, 0), '/var/lib/stillpoint');
});

test('sockets of the default place are where nothing outlives the machine, others beside their state', (t) => {
  const xdg = { XDG_RUNTIME_DIR: '/run/user/1000', XDG_STATE_HOME: '/data/state' };
  t.is(runDirectory('/var/lib/stillpoint', {}, 0), '/run/stillpoint');
  t.is(runDirectory('/data/state/stillpoint', xdg, 1000), '/run/user/1000/stillpoint');
  t.is(
    runDirectory('/data/state/stillpoint', { XDG_STATE_HOME: '/data/state' }, 1000),
    '/data/state/stillpoint',
  );
  t.is(runDirectory('/elsewhere', { ...xdg, STILLPOINT_STATE: '/elsewhere' }, 1000), '/elsewhere');
  t.is(runDirectory('/elsewhere', {}, 0), '/elsewhere');
});
