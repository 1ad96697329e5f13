import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import test from 'ava';
import { stateDirectory } from '../../src/config/state-directory.js';

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
