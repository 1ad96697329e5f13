// The npm packages that run time needs, with all that they depend on, as Node finds them.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const packageAt = (directory) => JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));

/** Where `name` is found from `directory`: its own node_modules first, then those above. */
function resolve(name, directory) {
  for (let above = directory; ; above = above.replace(/(^|\/)node_modules\/(@[^/]+\/)?[^/]+$/, '')) {
    const found = join(above, 'node_modules', name);
    if (existsSync(join(found, 'package.json'))) return found;
    if (above === '') return null;
  }
}

/** @returns {{directory: string, name: string, version: string, license: string}[]} by directory */
export function packagesBelow(names) {
  const found = new Map();
  const visit = (name, from, isOptional) => {
    const directory = resolve(name, from);
    if (directory === null) {
      if (isOptional) return;
      throw new Error(`npm package ${name}, needed by ${from || 'stillpoint'}, is not installed`);
    }
    if (found.has(directory)) return;
    const { version, license, dependencies = {}, optionalDependencies = {} } = packageAt(directory);
    found.set(directory, { directory, name, version, license });
    for (const dependency of Object.keys(dependencies))
      visit(dependency, directory, dependency in optionalDependencies);
    for (const dependency of Object.keys(optionalDependencies)) visit(dependency, directory, true);
  };
  for (const name of names) visit(name, '', false);
  return [...found.values()].sort((a, b) => (a.directory < b.directory ? -1 : 1));
}

/** The text of its licence, if it brings one. */
export function licenceText(directory) {
  const file = readdirSync(directory).find((name) => /^licen[cs]e(\.(md|txt))?$/i.test(name));
  return file === undefined ? null : readFileSync(join(directory, file), 'utf8');
}
