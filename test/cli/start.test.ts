/**
 * What every command does before its work: the program is one file, and loads no library before it is needed.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import test from 'ava';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { COMMAND } from '../helpers/machines/stillpoint.js';

const BUNDLE = 'build/bundle/stillpoint.cjs';

/** Runs it with a module before it. */
function runAfter(preload: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  const module = `data:text/javascript,${encodeURIComponent(preload)}`;
  return spawnSync(process.execPath, ['--import', module, COMMAND, ...args], { encoding: 'utf8', env });
}

/** The packages that were loaded when the command ended, of those that are not in the bundle. */
function packagesLoadedBy(args: readonly string[]): string[] {
  const { stderr } = runAfter(
    `import Module from 'node:module';
    process.on('exit', () => console.error('loaded ' + JSON.stringify(Object.keys(Module._cache))));`,
    args,
  );
  const files = JSON.parse(stderr.match(/^loaded (.*)$/m)?.[1] ?? '[]') as string[];
  const packages = files.flatMap((file) => file.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []);
  return [...new Set(packages)].sort();
}

test('a library is loaded by the commands that need it', async (t) => {
  const directory = await tempDir(t);
  t.deepEqual(packagesLoadedBy(['--version']), []);
  const local = packagesLoadedBy(['points', '--store', directory]);
  t.true(local.includes('lmdb'));
  t.deepEqual(
    ['fastify', 'pino', '@peculiar/x509'].filter((name) => local.includes(name)),
    [],
  );
});

test('the bundle was made after what is in it: the tests run one program', (t) => {
  const madeMs = statSync(BUNDLE).mtimeMs;
  const { sources } = JSON.parse(readFileSync(`${BUNDLE}.map`, 'utf8')) as { sources: string[] };
  const compiled = sources
    .map((source) => relative('', join(dirname(BUNDLE), source)))
    .filter((path) => path.startsWith('src/'))
    .map((path) => join('build/ts', path.replace(/\.ts$/, '.js')));
  t.true(compiled.includes('build/ts/src/cli/main.js'));
  const newer = compiled.filter((path) => statSync(path).mtimeMs > madeMs);
  t.deepEqual(newer, [], 'Run "npm run build".');
});

/** `used` if V8 took what was made of the bundle before, `refused` if not, `missing` if it was given none. */
function codeOfStart(command: string): string {
  const preload = `data:text/javascript,${encodeURIComponent(`import vm from 'node:vm';
    vm.Script = class extends vm.Script {
      constructor(source, options) {
        super(source, options);
        const word = options.cachedData === undefined ? 'missing' : this.cachedDataRejected ? 'refused' : 'used';
        console.error('code ' + word);
      }
    };`)}`;
  const { stderr, stdout } = spawnSync(process.execPath, ['--import', preload, command, '--version'], {
    encoding: 'utf8',
  });
  return `${/^code (.*)$/m.exec(stderr)?.[1]} ${stdout.trim()}`;
}

test('it is not compiled at each start, and what is damaged of that, or of another bundle, is not used', async (t) => {
  const version = spawnSync(process.execPath, [COMMAND, '--version'], { encoding: 'utf8' }).stdout.trim();
  t.is(codeOfStart(COMMAND), `used ${version}`);
  const copy = await tempDir(t);
  // One that loads a module while it runs.
  await writeFile(join(copy, 'agent.toml'), '[[device]]\npath = "/dev/sda"\n');
  const env = { ...process.env, STILLPOINT_CONFIG: copy };
  const shown = spawnSync(process.execPath, [COMMAND, 'config', 'show', 'agent'], { encoding: 'utf8', env });
  t.regex(shown.stdout, /\/dev\/sda/, shown.stderr);
  await mkdir(join(copy, 'build/bundle'), { recursive: true });
  for (const path of ['build/native', 'build/runtime', 'scripts', 'node_modules', 'package.json'])
    await symlink(join(process.cwd(), path), join(copy, path));
  await cp('bin', join(copy, 'bin'), { recursive: true });
  await cp(BUNDLE, join(copy, BUNDLE));
  const command = join(copy, 'bin/stillpoint.js');
  t.is(codeOfStart(command), `missing ${version}`);
  const code = readFileSync(`${BUNDLE}.code`);
  code[code.length >> 1] = (code[code.length >> 1] ?? 0) ^ 1;
  await writeFile(join(copy, `${BUNDLE}.code`), code);
  t.is(codeOfStart(command), `missing ${version}`);
  await cp(`${BUNDLE}.code`, join(copy, `${BUNDLE}.code`));
  t.is(codeOfStart(command), `used ${version}`);
  // V8 compares no more than the length.
  const bundle = readFileSync(BUNDLE, 'utf8');
  await writeFile(join(copy, BUNDLE), bundle.replace('Stillpoint', 'stillpoint'));
  t.is(codeOfStart(command), `missing ${version}`);
});

test('it is strict, as the modules are that it is made of', (t) => {
  t.true(readFileSync(BUNDLE, 'utf8').startsWith("'use strict';\n"));
});

test('the stack of an error that nobody foresaw names lines of the sources', (t) => {
  const preload = `import tty, { isatty } from 'node:tty';
    tty.isatty = (fd) => { if (fd === 1) throw new Error('not foreseen'); return isatty(fd); };`;
  const { stderr } = runAfter(preload, ['--version'], { ...process.env, STILLPOINT_STACK: '1' });
  t.regex(stderr, /^error: stillpoint: not foreseen/);
  t.regex(stderr, /^ +at .*\/src\/cli\/output\/standard-output\.ts:\d+:\d+\)$/m);
  t.notRegex(runAfter(preload, ['--version']).stderr, /^ +at /m);
});
