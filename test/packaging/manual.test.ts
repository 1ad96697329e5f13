/** Manual pages and completions: made from the definitions of the commands, so that they have all of them. */
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import type { Command } from 'commander';
import { buildProgram } from '../../src/cli/main.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { programs, testWith } from '../helpers/requirements.js';

const execute = promisify(execFile);
const nothing = { write: () => true };

interface Described {
  readonly words: readonly string[];
  readonly command: Command;
}

function allCommands(command: Command, words: readonly string[] = []): Described[] {
  const below = command.commands.flatMap((child) => allCommands(child, [...words, child.name()]));
  return [{ words, command }, ...below];
}

const surroundings = { stdout: nothing, stderr: nothing, environment: {}, userId: 0 };
const commands = allCommands(buildProgram(async () => undefined, surroundings));

async function make(directory: string): Promise<void> {
  await execute(process.execPath, ['scripts/manual.mjs', directory, '1.2.3', '2026-01-02']);
}

const flagsOf = ({ command }: Described): string[] =>
  command.options
    .filter(({ hidden }) => !hidden)
    .flatMap(({ short, long }) => [short, long].filter((flag) => flag != null));

test('each command, option and argument says what it is', (t) => {
  t.true(commands.length > 20);
  const silent = commands.flatMap(({ words, command }) => [
    ...(command.description() === '' ? [words.join(' ')] : []),
    ...command.options
      .filter((option) => option.description === '')
      .map(({ flags }) => [...words, flags].join(' ')),
    ...command.registeredArguments
      .filter((argument) => argument.description === '')
      .map((argument) => [...words, argument.name()].join(' ')),
  ]);
  t.deepEqual(silent, []);
});

test('manual pages and completions have all commands and options', async (t) => {
  const directory = await tempDir(t);
  await make(directory);
  const read = (file: string): string => readFileSync(join(directory, file), 'utf8');
  const completions = [
    'bash-completion/completions/stillpoint',
    'zsh/vendor-completions/_stillpoint',
    'fish/vendor_completions.d/stillpoint.fish',
  ].map(read);
  for (const described of commands) {
    const { words, command } = described;
    const page = read(`man/man1/${['stillpoint', ...words].join('-')}.1`).replaceAll('\\-', '-');
    t.true(page.includes('"Stillpoint 1.2.3"'));
    for (const flag of flagsOf(described)) {
      t.true(page.includes(`\\fB${flag}\\fR`), `${words.join(' ')} ${flag}: manual`);
      const inFish = flag.startsWith('--') ? ` -l ${flag.slice(2)}` : ` -s ${flag.slice(1)}`;
      const fish = completions[2]
        ?.split('\n')
        .filter((line) => line.includes(`__stillpoint_at '${words.join(' ')}'"`));
      t.true(
        fish?.some((line) => line.includes(inFish)),
        `${words.join(' ')} ${flag}: fish`,
      );
      for (const shell of completions.slice(0, 2)) {
        const line = shell.split('\n').find((text) => text.startsWith(`          '${words.join(' ')}') `));
        t.true(line?.includes(flag), `${words.join(' ')} ${flag}: completion`);
      }
    }
    for (const argument of command.registeredArguments)
      t.true(page.includes(`\\fI${argument.name()}\\fR`), `${words.join(' ')} ${argument.name()}`);
  }
});

/** What bash offers for the last of the words. */
function offered(script: string, words: readonly string[], env: NodeJS.ProcessEnv = {}): string[] {
  const text = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _stillpoint; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['-c', text, script, 'stillpoint', ...words], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  if (stderr !== '') throw new Error(stderr);
  return stdout.split('\n').filter((line) => line !== '');
}

test('the shell completes commands, options, choices and the names of taps, past what came before', async (t) => {
  const directory = await tempDir(t);
  await make(directory);
  const script = join(directory, 'bash-completion/completions/stillpoint');
  t.deepEqual(offered(script, ['ins']), ['inspect']);
  t.deepEqual(offered(script, ['--state', '/x', '--json', 'receiver', 'ser']), ['serve']);
  t.true(offered(script, ['receiver', 'schedule', '']).includes('set'));
  t.deepEqual(offered(script, ['backup', '/dev/x', '--prov']), ['--provider']);
  t.deepEqual(offered(script, ['backup', '/dev/x', '--provider', 'l']), ['live', 'lvm']);
  t.deepEqual(offered(script, ['--log-level', 'd']), ['debug']);
  t.deepEqual(offered(script, ['backup', '/dev/nul']), ['/dev/null']);
  await mkdir(join(directory, 'taps/srv'), { recursive: true });
  t.deepEqual(offered(script, ['tap', 'status', ''], { STILLPOINT_STATE: directory }), ['srv']);
});

testWith(programs('man'), 'man takes the pages without a warning', async (t) => {
  const directory = await tempDir(t);
  await make(directory);
  for (const words of [[], ['backup'], ['receiver', 'schedule', 'set']]) {
    const page = join(directory, 'man/man1', `${['stillpoint', ...words].join('-')}.1`);
    const { stdout, stderr } = await execute('man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', page]);
    t.is(stderr, '');
    t.true(stdout.includes('display help for command'));
  }
});
