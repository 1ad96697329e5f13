// debian/copyright in its machine-readable form, with the licences of all that is inside: ours, Node's, the
// npm packages', and those of what is linked into addons: BLAKE3 into ours, LMDB and LZ4 into lmdb's.
//   node scripts/packaging/copyright.mjs PROGRAM_DIRECTORY >copyright
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { licenceText, packagesBelow } from './npm-packages.mjs';

const [home] = process.argv.slice(2);
const { outside, inside } = JSON.parse(readFileSync('build/bundle/packages.json', 'utf8'));

/** Texts that Debian has in /usr/share/common-licenses. */
const COMMON = { 'Apache-2.0': 'Apache-2.0' };
const indented = (text) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n');

const files = [];
/** By name. */
const licences = new Map();

function add(patterns, holders, licence, text) {
  files.push(`Files: ${patterns.join('\n ')}\nCopyright: ${holders.join('\n ')}\nLicense: ${licence}`);
  for (const name of licence.split(/ (?:and|or) /)) {
    const known = COMMON[name];
    const own = known === undefined ? text : `The text is in /usr/share/common-licenses/${known}.`;
    if (!licences.get(name)) licences.set(name, own);
  }
}

const COPYRIGHT = /^\W*(copyright\s+(?:\(c\)|©|\d)|(?:\(c\)|©)\s*\d).*/gim;

function holdersIn(text, { author, name }) {
  const written = [...(text ?? '').matchAll(COPYRIGHT)].map(([line]) =>
    line.replace(/^[\W_]*(copyright\s*)?(\(c\)|©)?\s*/i, '').trim(),
  );
  const holders = written.filter((line) => /[A-Za-z]{3}/.test(line) && !/^(owner|notice|holder)/i.test(line));
  const named = typeof author === 'string' ? author : author?.name;
  return holders.length > 0 ? [...new Set(holders)] : [named ?? `the authors of ${name}`];
}

/** MIT AND (CC0-1.0 OR …) and the like, in Debian's words. */
const debianName = (licence) =>
  licence
    .replace(/[()]/g, '')
    .replace(/ AND /g, ' and ')
    .replace(/ OR /g, ' or ')
    .replace(/\bMIT\b/g, 'Expat')
    .replace('BSD-3-Clause', 'BSD-3-clause')
    .replace('BSD-2-Clause', 'BSD-2-clause');

function addPackage({ directory, name, license }, patterns) {
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const licence = license ?? manifest.licenses?.map(({ type }) => type).join(' OR ');
  if (licence === undefined) throw new Error(`npm package ${name}: it does not say its licence`);
  const text = licenceText(directory);
  // Packages with the same licence share its text; their notices are above.
  add(patterns, holdersIn(text, manifest), debianName(licence), text?.replace(COPYRIGHT, '').trim());
}

const below = `usr/lib/stillpoint/*`;
add(['*'], ['the authors of Stillpoint'], 'Apache-2.0', null);

const node = dirname(dirname(process.execPath));
if (!existsSync(join(node, 'LICENSE'))) throw new Error(`${node}: Node's licence is missing`);
add(
  [`${below}/build/runtime/*`],
  ['Node.js contributors, and the authors named in the licence'],
  'Node.js',
  readFileSync(join(node, 'LICENSE'), 'utf8'),
);

const shipped = packagesBelow(outside).filter(({ directory }) =>
  existsSync(join(home, directory, 'package.json')),
);
for (const entry of shipped) addPackage(entry, [`${below}/${entry.directory}/*`]);
const addon = shipped.find(({ directory }) => directory.startsWith('node_modules/@lmdb/'));
if (addon === undefined) throw new Error('npm package lmdb: its addon is missing');
const linked = (file) => readFileSync(join('node_modules/lmdb/dependencies', file), 'utf8');
const noticesIn = (text) =>
  [...text.matchAll(/^copyright .*/gim)].map(([line]) => line.replace(/^copyright (\(c\) )?/i, ''));
const parts = [
  {
    licence: 'OLDAP-2.8',
    notices: 'lmdb/libraries/liblmdb/COPYRIGHT',
    text: 'lmdb/libraries/liblmdb/LICENSE',
  },
  { licence: 'BSD-2-clause', notices: 'lz4/lib/LICENSE', text: 'lz4/lib/LICENSE' },
];
for (const { licence, text } of parts) licences.set(licence, linked(text).replace(COPYRIGHT, '').trim());
add(
  [`${below}/${addon.directory}/*.node`],
  ['the authors of lmdb', ...parts.flatMap(({ notices }) => noticesIn(linked(notices)))],
  ['Expat', ...parts.map(({ licence }) => licence)].join(' and '),
  null,
);
for (const name of inside) {
  const [entry] = packagesBelow([name]);
  addPackage(entry, [`${below}/build/bundle/stillpoint.cjs`]);
}
add(
  [`${below}/build/native/Release/*`],
  ["Jack O'Connor, Samuel Neves and the BLAKE3 team: BLAKE3, linked in"],
  // Or CC0-1.0, as we choose.
  'Apache-2.0',
  null,
);

for (const [name, text] of licences)
  if (!text) throw new Error(`licence ${name}: no package brings its text`);
const head =
  'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: stillpoint';
const texts = [...licences].map(([name, text]) => `License: ${name}\n${indented(text)}`);
process.stdout.write(`${[head, ...files, ...texts].join('\n\n')}\n`);
