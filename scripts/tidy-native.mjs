// clang-tidy on many files at once. Nearly all of its time goes into the headers of libraries, so
// files are joined into one, which reads them once: that a joined file is clean proves it for all its
// parts. Where one is not, each half of its parts is looked at, and what is said of a file in the end
// is said of that file alone.
//   node scripts/tidy-native.mjs CLANG_TIDY BUILD        BUILD has a compile_commands.json
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

const [clangTidy, buildDirectory] = process.argv.slice(2);
const build = resolve(buildDirectory);
// A look takes seconds, but it may run on what others leave of the processors.
const LOOK_SECONDS_MAX = 3600;
// The checks are named: joined files may lie in a build outside of the checkout, where none would be found.
const OPTIONS = [
  '--quiet',
  '--config-file=.clang-tidy',
  '--extra-arg=-Wno-unknown-warning-option',
  '--warnings-as-errors=*',
];

function sourcesIn(folder) {
  const commands = JSON.parse(readFileSync(join(build, 'compile_commands.json'), 'utf8'));
  return commands
    .filter(({ file }) => file.startsWith(`${resolve(folder)}/`))
    .sort((a, b) => (a.file < b.file ? -1 : 1))
    .map(({ file, command }) => ({ file, options: optionsOf(command), text: readFileSync(file, 'utf8') }));
}

// What headers are found and how they are read, without the compiler, its input and its output.
function optionsOf(command) {
  const words = command.replaceAll('\\"', '"').split(/\s+/).slice(1);
  const options = [];
  for (let at = 0; at < words.length; at++) {
    if (words[at] === '-o' || words[at] === '-c') at++;
    else if (words[at] === '-isystem') options.push(`-isystem${words[++at]}`);
    else options.push(words[at]);
  }
  return options;
}

// --- joining ---

const TYPE_NAME = /^(?:class|struct|enum class|enum|using) (\w+)/gm;
const OTHER_NAME = /^(?!class|struct|enum|using|template|\/\/)[a-zA-Z[].*?(\w+)(?=\(| = |\{|;|\[\d*\] = )/gm;

// What a file has for itself, in its unnamed namespace or as an alias, gets a number: other files may have
// things of the same name.
function withOwnNames(text, number) {
  const names = new Set(Array.from(text.matchAll(/^using (\w+) =/gm), ([, name]) => name));
  for (const [, own] of text.matchAll(/^namespace \{\n(.*?)^\}/gms)) {
    for (const pattern of [TYPE_NAME, OTHER_NAME]) {
      for (const [, name] of own.matchAll(pattern)) names.add(name);
    }
  }
  if (names.size === 0) return text;
  const used = new RegExp(`(?<!\\.|->|::)\\b(?:${[...names].join('|')})\\b`, 'g');
  return text
    .split('\n')
    .map((line) => (line.startsWith('#') ? line : line.replaceAll(used, (name) => `${name}_${number}`)))
    .join('\n');
}

let joinedCount = 0;

// Writes the file and its compile_commands.json; returns the path.
function joinSources(sources) {
  const directory = join(build, 'joined', String(joinedCount++));
  const file = join(directory, 'joined.cc');
  mkdirSync(directory, { recursive: true });
  writeFileSync(file, sources.map(({ text }, at) => withOwnNames(text, at)).join('\n'));
  const options = [...new Set(sources.flatMap((source) => source.options))];
  const command = { directory, file, arguments: ['c++', ...options, '-c', file] };
  writeFileSync(join(directory, 'compile_commands.json'), JSON.stringify([command]));
  return { directory, file };
}

// --- looking ---

// Whether there is nothing to say, and what was said.
function look(directory, file) {
  return new Promise((done) => {
    const seconds = String(LOOK_SECONDS_MAX);
    const linter = spawn('timeout', [seconds, clangTidy, '-p', directory, ...OPTIONS, file]);
    let said = '';
    for (const stream of [linter.stdout, linter.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        said += text;
      });
    }
    linter.on('error', (error) => done({ isClean: false, said: `${error.message}\n` }));
    linter.on('close', (status) => done({ isClean: status === 0, said }));
  });
}

// Returns how many files are not clean.
async function countFaulty(sources) {
  if (sources.length === 1) {
    const [{ file }] = sources;
    const { isClean, said } = await look(build, file);
    if (!isClean) process.stdout.write(`${relative('.', file)}:\n${said}`);
    return isClean ? 0 : 1;
  }
  const { directory, file } = joinSources(sources);
  const { isClean, said } = await look(directory, file);
  if (isClean) return 0;
  const first = said.split('\n').find((line) => line.includes(' error: '));
  process.stdout.write(
    `${sources.length} files joined are not clean, so they are taken apart: ${first ?? said}\n`,
  );
  const half = Math.ceil(sources.length / 2);
  return (await countFaulty(sources.slice(0, half))) + (await countFaulty(sources.slice(half)));
}

// --- all ---

const groups = ['native/core', 'native/binding'].map(sourcesIn);
if (groups.some((sources) => sources.length === 0))
  throw new Error(`${build}: it is not configured for this checkout.`);
let faulty = 0;
for (const count of await Promise.all(groups.map(countFaulty))) faulty += count;
process.stdout.write(`${groups.flat().length} files, ${faulty} with findings\n`);
process.exitCode = faulty === 0 ? 0 : 1;
