// The directory of an installed version: what a checkout has that is needed at run time, in the same places,
// so that the program finds its files in both alike (src/native/checkout.ts).
//   node scripts/packaging/program.mjs TARGET VERSION
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { packagesBelow } from './npm-packages.mjs';

const [target, version] = process.argv.slice(2);

// What packages carry for those who build, test or read them. Addons for another libc or another Node are
// never loaded.
const CODE = /\.([cm]?js|json|node)$/;
const NOT_RUN =
  /(^|\/)(tests?|__tests__|bench(mark)?s?|docs?|examples?|node_modules|obj\.target|\.[^/]*)(\/|$)|\.musl\.node$|(^|\/)(rollup|eslint|vitest|webpack)\.config\.[cm]?js$/;
const abi = process.versions.modules;
const isForeignAddon = (path) => /\.abi(\d+)\./.test(path) && !path.includes(`.abi${abi}.`);

/** Commands of packages are for those who develop. */
const isCommand = (path) => readFileSync(path).subarray(0, 2).toString() === '#!';

const put = (from, to, mode) => {
  const path = join(target, to);
  mkdirSync(dirname(path), { recursive: true });
  if (mode === undefined) copyFileSync(from, path);
  else writeFileSync(path, readFileSync(from), { mode });
};

function putPackage(directory) {
  for (const entry of readdirSync(directory, { recursive: true }).sort()) {
    const path = entry.split(sep).join('/');
    const isWanted = CODE.test(path) && !NOT_RUN.test(path) && !isForeignAddon(path);
    if (isWanted && lstatSync(join(directory, path)).isFile() && !isCommand(join(directory, path)))
      put(join(directory, path), `${directory}/${path}`, 0o644);
  }
}

put('bin/stillpoint.js', 'bin/stillpoint.js', 0o755);
put('build/bundle/stillpoint.cjs', 'build/bundle/stillpoint.cjs', 0o644);
put('build/bundle/stillpoint.cjs.code', 'build/bundle/stillpoint.cjs.code', 0o644);
put('build/native/Release/stillpoint.node', 'build/native/Release/stillpoint.node', 0o644);
put('build/native/Release/stillpoint-freezer', 'build/native/Release/stillpoint-freezer', 0o755);
put('scripts/runtime/package.json', 'scripts/runtime/package.json', 0o644);
put(process.execPath, 'build/runtime/node_modules/.bin/node', 0o755);
const { name, license, type } = JSON.parse(readFileSync('package.json', 'utf8'));
writeFileSync(join(target, 'package.json'), `${JSON.stringify({ name, version, license, type }, null, 2)}\n`);

const { outside } = JSON.parse(readFileSync('build/bundle/packages.json', 'utf8'));
for (const { directory } of packagesBelow(outside)) putPackage(directory);
for (const package_ of outside)
  if (!existsSync(join(target, 'node_modules', package_, 'package.json')))
    throw new Error(`${package_} is missing`);
