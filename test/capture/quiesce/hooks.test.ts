import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { startHook } from '../../../src/capture/quiesce/hooks.js';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { hookScene, WELL_BEHAVED } from '../../helpers/machines/hooks.js';

const OPTIONS = { device: '/dev/sdz', name: 'pay roll', deadlineMs: 10_000 };

async function isGone(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 100; tries += 1) {
    if (!existsSync(`/proc/${pid}`)) return true;
    await sleep(20);
  }
  return false;
}

test('one process: ready, released, ended well; it knows the device and the name', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', `log "$STILLPOINT_DEVICE $STILLPOINT_NAME"\n${WELL_BEHAVED}`);
  const hook = await startHook(path, OPTIONS);
  t.deepEqual(await scene.log(), ['hook /dev/sdz pay roll', 'hook quiesced']);
  t.is(await hook.release(true), null);
  t.is(await hook.release(true), null);
  t.deepEqual((await scene.log()).slice(2), ['hook release']);
});

test('a deadline with parts of a millisecond leaves none that was started and is waited for by nobody', async (t) => {
  const scene = await hookScene(t);
  // As 16.1 s gives it.
  const hook = await startHook(await scene.script('hook', WELL_BEHAVED), {
    ...OPTIONS,
    deadlineMs: 16.1 * 1000,
  });
  t.is(await hook.release(true), null);
  t.deepEqual(await scene.log(), ['hook quiesced', 'hook release']);
});

test('without an instant it is told so', async (t) => {
  const scene = await hookScene(t);
  const hook = await startHook(await scene.script('hook', WELL_BEHAVED), OPTIONS);
  t.is(await hook.release(false), null);
  t.deepEqual(await scene.log(), ['hook quiesced', 'hook aborted']);
});

test('one that fails gives its status and its words', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', 'echo "about to stop"; echo "no such service" >&2; exit 7');
  const error = await t.throwsAsync(startHook(path, OPTIONS));
  t.true(isStillpointError(error, 'hook'));
  t.regex(
    error?.message ?? '',
    /^hook .*\/hook: it ended before it was ready, with status 7: .*no such service/,
  );
});

test('one that ends without being ready has failed, whatever its status', async (t) => {
  const scene = await hookScene(t);
  const error = await t.throwsAsync(startHook(await scene.script('hook', 'echo already; exit 0'), OPTIONS));
  t.regex(error?.message ?? '', /it ended before it was ready, with status 0: already/);
});

test('one that is no executable', async (t) => {
  const error = await t.throwsAsync(startHook('/nonexistent/hook', OPTIONS));
  t.true(isStillpointError(error, 'config'));
});

test('one that hangs is killed with all that it started', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', 'sleep 600 & log $!; wait');
  const error = await t.throwsAsync(startHook(path, { ...OPTIONS, deadlineMs: 700 }));
  t.true(isStillpointError(error, 'hook'));
  t.regex(error?.message ?? '', /it was not ready within 700 ms/);
  const [line = ''] = await scene.log();
  t.true(await isGone(Number(line.split(' ')[1])));
});

test('one that ignores SIGTERM gets SIGKILL', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', "trap '' TERM; log $$; while :; do sleep 0.1; done");
  await t.throwsAsync(startHook(path, { ...OPTIONS, deadlineMs: 700 }), { message: /not ready within/ });
  const [line = ''] = await scene.log();
  t.true(await isGone(Number(line.split(' ')[1])));
});

test('one that hangs on release is killed, and told of', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', 'echo ready; read -r word; echo "still waiting"; sleep 600');
  const hook = await startHook(path, { ...OPTIONS, deadlineMs: 1_000 });
  t.regex((await hook.release(true)) ?? '', /did not end within 1000 ms and was killed: still waiting$/);
});

test('one that fails on release, and one that ended before it', async (t) => {
  const scene = await hookScene(t);
  const failing = await startHook(await scene.script('a', 'echo ready; read -r word; exit 3'), OPTIONS);
  t.regex((await failing.release(true)) ?? '', /a ended with status 3$/);
  const early = await startHook(await scene.script('b', 'echo ready; sleep 0.1'), OPTIONS);
  await sleep(300);
  t.regex((await early.release(true)) ?? '', /b ended before it was released, with status 0$/);
});

test('the words of a talkative one are bounded to the last, and it does not block', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script(
    'hook',
    "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo; echo the end; exit 1",
  );
  const error = await t.throwsAsync(startHook(path, OPTIONS));
  const message = error?.message ?? '';
  t.true(message.length < 2_000);
  t.regex(message, /the end\./);
});

test('`ready` in two pieces, among other lines', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script(
    'hook',
    'printf "already\\nrea"; sleep 0.2; printf "dy\\nmore\\n"; read -r word',
  );
  const hook = await startHook(path, OPTIONS);
  t.is(await hook.release(true), null);
});

test('what it leaves running does not hold it up', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', 'echo ready; read -r word; sleep 3 & exit 0');
  const hook = await startHook(path, OPTIONS);
  const started = performance.now();
  t.is(await hook.release(true), null);
  t.true(performance.now() - started < 2_500);
});

test('cancelled: it gets the time to undo what it has begun', async (t) => {
  const scene = await hookScene(t);
  const path = await scene.script('hook', 'log begun; read -r word || log undone');
  const controller = new AbortController();
  const starting = startHook(path, { ...OPTIONS, signal: controller.signal });
  while ((await scene.log()).length === 0) await sleep(10);
  controller.abort();
  const error = await t.throwsAsync(starting);
  t.true(isStillpointError(error, 'cancelled'));
  t.deepEqual(await scene.log(), ['hook begun', 'hook undone']);
});
