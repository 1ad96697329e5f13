// Builds the addon: native/CMakeLists.txt through cmake-js, into build/native/Release/stillpoint.node.
//   node scripts/build-native.mjs [--test-programs] [--core-tests] [--debug]
// --test-programs also builds what the TypeScript tests run. Every later build here then does so too: no test
// runs an old one. --core-tests also builds the core's own tests, build/native/core_tests. --debug builds for
// a debugger, without optimizing, in the same place. These two hold for one build only. Nothing is
// downloaded: headers come from the npm packages node-api-headers and node-addon-api.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const source = join(root, 'native');
const output = join(root, 'build', 'native');

const options = process.argv.slice(2);
const OPTIONS = ['--test-programs', '--core-tests', '--debug'];
const unknown = options.filter((option) => !OPTIONS.includes(option));
if (unknown.length > 0) {
  console.error(
    `native build: ${unknown.join(' ')}: there is no such option. It takes ${OPTIONS.join(', ')}.`,
  );
  process.exit(2);
}
const onIfGiven = (option) => (options.includes(option) ? 'ON' : 'OFF');
// CMake keeps in its cache what it was once told.
const settings = [
  '--CDSANITIZE=',
  `--CDSTILLPOINT_DEBUG=${onIfGiven('--debug')}`,
  `--CDSTILLPOINT_TESTS=${onIfGiven('--core-tests')}`,
  ...(options.includes('--test-programs') ? ['--CDSTILLPOINT_TEST_PROGRAMS=ON'] : []),
];

function works(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

const needs = [
  ['cmake', works('cmake', '--version')],
  ['make', works('make', '--version') || works('ninja', '--version')],
  ['g++', works('c++', '--version')],
  ['pkg-config', works('pkg-config', '--version')],
  ['libzstd-dev', works('pkg-config', '--exists', 'libzstd')],
];
const missing = needs.filter(([, found]) => !found).map(([name]) => name);
if (missing.length > 0) {
  console.error(
    `native build: missing ${missing.join(', ')}. Install with: sudo apt-get install -y ${missing.join(' ')}`,
  );
  process.exit(1);
}

// CMake refuses a cache that was made for another place (a moved or copied checkout).
const cache = join(output, 'CMakeCache.txt');
if (existsSync(cache) && !readFileSync(cache, 'utf8').includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${source}\n`)) {
  rmSync(output, { recursive: true });
}
mkdirSync(output, { recursive: true });

const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
// `configure` every time: `build` alone keeps the old settings of an existing cache.
for (const step of [['configure'], ['build', '--parallel', String(availableParallelism())]]) {
  const args = [cmakeJs, ...step, '-d', source, '-O', output, '-B', 'Release', ...settings, '-l', 'warn'];
  // One build at a time in this directory, whoever starts it.
  const result = spawnSync('flock', [join(output, '.lock'), process.execPath, ...args], { stdio: 'inherit' });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    console.error(
      `native build: "cmake-js ${step[0]}" failed (status ${result.status}); its messages are above.`,
    );
    process.exit(1);
  }
}
