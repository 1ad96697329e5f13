// What a package is made of: versions of all that is inside, and the digest of each file. It is written last.
//   node scripts/packaging/manifest.mjs PROGRAM_DIRECTORY VERSION COMMIT
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packagesBelow } from './npm-packages.mjs';

const [home, version, commit] = process.argv.slice(2);
const { outside, inside } = JSON.parse(readFileSync('build/bundle/packages.json', 'utf8'));
const locked = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages;

const files = readdirSync(home, { recursive: true })
  .filter((name) => lstatSync(join(home, name)).isFile())
  .sort()
  .map((name) => [
    name,
    createHash('sha256')
      .update(readFileSync(join(home, name)))
      .digest('hex'),
  ]);
const packages = packagesBelow([...outside, ...inside]).map(({ directory, name, version }) => ({
  ...{ name, version, integrity: locked[directory]?.integrity },
}));
const manifest = {
  ...{ name: 'stillpoint', version, commit, node: process.versions.node, openssl: process.versions.openssl },
  ...{ architecture: process.arch, packages, sha256: Object.fromEntries(files) },
};
writeFileSync(join(home, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
