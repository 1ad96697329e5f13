/** Names the hot spots of agent and receiver in one step of the main job. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchDirectory, exitOnSignals, requireEnvironment } from './environment.js';
import { copyState, prepareInputs } from './inputs.js';
import { end, type Measured, shell, UsageSampler } from './process.js';
import { seconds } from './report.js';
import { type AgentLauncher, Installation } from './stillpoint.js';

const STEPS = ['first', 'next', 'scattered', 'unchanged', 'restore'] as const;
type Step = (typeof STEPS)[number];
const TOP = 25;

const USAGE = `usage: bench/profile [--js] [STEP]
Runs the main job up to STEP (${STEPS.join(', ')}; default: first) and shows where agent and receiver spent their time in it:
all threads with perf (Debian's linux-perf), or with --js the main threads with V8's profiler.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { js: { type: 'boolean' }, help: { type: 'boolean' } },
});
const step = (positionals[0] ?? 'first') as Step;
if (values.help === true || !STEPS.includes(step)) {
  console.log(USAGE);
  process.exit(values.help === true ? 0 : 2);
}

exitOnSignals();
requireEnvironment(console.error);
const directory = benchDirectory();
const inputs = prepareInputs(join(directory, 'inputs'), console.error);
const output = join(directory, 'profiles');
mkdirSync(output, { recursive: true });
if (values.js === true) await profileWithV8();
else await profileWithPerf();

async function profileWithV8(): Promise<void> {
  const options = (who: string) => [
    '--cpu-prof',
    `--cpu-prof-dir=${output}`,
    `--cpu-prof-name=${who}-${step}.cpuprofile`,
  ];
  const agent = { prefix: [], nodeOptions: options('agent') };
  // Its profile is of its whole life, with the steps before this one.
  await play({ receiverNodeOptions: options('receiver') }, (installation, image) =>
    run(installation, image, agent),
  );
  for (const who of ['agent', 'receiver']) {
    const path = join(output, `${who}-${step}.cpuprofile`);
    console.log(`\n== ${who}, main thread (${path})\n${hottestFunctions(path).join('\n')}`);
  }
}

async function profileWithPerf(): Promise<void> {
  const record = (who: string) => [
    'record',
    '-q',
    '-F',
    '499',
    '-g',
    '-o',
    join(output, `${who}-${step}.perf`),
  ];
  // V8 then writes the names of its compiled functions to /tmp/perf-PID.map, where perf looks for them.
  const nodeOptions = ['--perf-basic-prof'];
  const agent = { prefix: ['perf', ...record('agent'), '--'], nodeOptions };
  await play({ receiverNodeOptions: nodeOptions }, async (installation, image) => {
    const recorder = spawn('perf', [...record('receiver'), '-p', String(installation.receiverPid)], {
      stdio: 'ignore',
    });
    const measured = await run(installation, image, agent);
    await end(recorder, 'SIGINT');
    return measured;
  });
  for (const who of ['agent', 'receiver']) {
    const path = join(output, `${who}-${step}.perf`);
    for (const keys of ['comm,dso', 'dso,symbol']) {
      const report = shell(
        'perf',
        'report',
        '-i',
        path,
        '--stdio',
        '--no-children',
        '-g',
        'none',
        '--sort',
        keys,
      );
      const lines = report.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      console.log(`\n== ${who}, by ${keys} (${path})\n${lines.slice(0, TOP).join('\n')}`);
    }
  }
}

/** Makes all steps before the asked one without the profiler, then it with. */
async function play(
  options: { readonly receiverNodeOptions: readonly string[] },
  profiled: (installation: Installation, image: string) => Promise<Measured>,
): Promise<void> {
  const installation = await Installation.make(join(directory, 'profiled'), options);
  const images = join(directory, 'images');
  const image = join(images, 'disk.raw');
  mkdirSync(images, { recursive: true });
  try {
    const last = STEPS.indexOf(step);
    for (const [index, state] of inputs.states.slice(0, last + 1).entries()) {
      copyState(state.path, image);
      if (index < last) await installation.backup(image);
    }
    shell('sync');
    const sampler = new UsageSampler(installation.receiverPid);
    const measured = await profiled(installation, image);
    const receiver = sampler.stop();
    console.log(
      `${step}: ${seconds(measured.wallMs)} under the profiler; CPU: receiver ${seconds(receiver.cpuMs)}, agent ${seconds(measured.cpuMs)} (of the profiler itself under perf)`,
    );
  } finally {
    await installation.remove();
    rmSync(images, { recursive: true });
  }
}

function run(installation: Installation, image: string, launcher: AgentLauncher): Promise<Measured> {
  if (step === 'restore') return installation.restore(join(directory, 'images', 'restored.raw'), launcher);
  return installation.backup(image, launcher);
}

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Self time by function, the greatest first. */
function hottestFunctions(path: string): string[] {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(path, 'utf8')) as CpuProfile;
  const names = new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || '(anonymous)'} ${url.split('/').slice(-3).join('/')}:${lineNumber + 1}`,
    ]),
  );
  const selfMs = new Map<string, number>();
  let totalMs = 0;
  for (const [index, id] of samples.entries()) {
    const name = names.get(id) ?? '';
    const ms = (timeDeltas[index] ?? 0) / 1000;
    totalMs += ms;
    selfMs.set(name, (selfMs.get(name) ?? 0) + ms);
  }
  return [...selfMs]
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP)
    .map(
      ([name, ms]) =>
        `${((100 * ms) / totalMs).toFixed(1).padStart(5)} %  ${ms.toFixed(0).padStart(6)} ms  ${name}`,
    );
}
