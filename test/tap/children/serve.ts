/** The process of a tap over a fake one: what `stillpoint tap serve NAME` is over the native one. */
import { pino } from 'pino';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { serveTap } from '../../../src/tap/daemon.js';
import { readTap } from '../../../src/tap/registry/registry.js';
import { fakeTapAddon } from '../../helpers/fakes/tap.js';

const [stateDirectory = '', name = ''] = process.argv.slice(2);
const stopped = new AbortController();
process.on('SIGTERM', () => stopped.abort());
try {
  const tap = await readTap(stateDirectory, name);
  await serveTap({ tap, addon: fakeTapAddon(), log: pino(), signal: stopped.signal });
} catch (error) {
  if (!isStillpointError(error)) throw error;
  const { code, thing, reason, remedy } = error;
  process.stdout.write(
    `${JSON.stringify({ event: 'error', code, thing, reason, remedy: remedy ?? null })}\n`,
  );
  process.exitCode = 1;
}
