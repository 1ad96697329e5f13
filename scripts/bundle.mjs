// Bundles the compiled command into one file, build/bundle/stillpoint.cjs: to find, read and link some 260
// small files took two thirds of the time that a short command needs.
//   node scripts/bundle.mjs
// It is CommonJS, since only there a bundle of one file loads a library not before a command needs it. Beside
// it goes what V8 makes of it, stillpoint.cjs.code, after a SHA-256 of both: bin/stillpoint.js loads them.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import vm from 'node:vm';
import { build } from 'esbuild';

// Every command needs them, and they are many files. The other packages stay where they are: some have
// addons, and some are large.
const BUNDLED = ['commander', 'zod'];

/** Its texts in fifty languages are a third of it, and we show none of them. */
const withoutLanguages = {
  name: 'zod without languages',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: 'export {};' })),
};

const BUNDLE = 'build/bundle/stillpoint.cjs';

const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const { metafile } = await build({
  // What tsc made, not the sources: the tests run the same code in their own process.
  entryPoints: ['build/ts/src/cli/main.js'],
  outfile: BUNDLE,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  external: Object.keys(dependencies).filter((name) => !BUNDLED.includes(name)),
  // CommonJS has no import.meta. Modules are strict, and so must be what is made of them.
  define: { 'import.meta.url': 'bundleUrl' },
  banner: { js: `'use strict';\nconst bundleUrl = require('node:url').pathToFileURL(__filename).href;` },
  // Code that V8 compiled before has nobody to ask for modules: they are required.
  supported: { 'dynamic-import': false },
  sourcemap: 'linked',
  sourcesContent: false,
  plugins: [withoutLanguages],
  logLevel: 'warning',
  metafile: true,
});

// Functions that a start needs are among it, since it was run, which takes the addon. V8 makes other bytes
// each time: those of the same bundle are kept, so that two packages of one build are the same.
const file = resolve(BUNDLE);
const bundle = readFileSync(file);
const CODE = `${BUNDLE}.code`;
const scriptOf = (cachedData) =>
  new vm.Script(Module.wrap(bundle.toString()), { filename: file, cachedData });
const digestOf = (code) => createHash('sha256').update(bundle).update(code).digest();

function isKept() {
  if (!existsSync(CODE)) return false;
  const kept = readFileSync(CODE);
  const code = kept.subarray(32);
  return digestOf(code).equals(kept.subarray(0, 32)) && !scriptOf(code).cachedDataRejected;
}

if (!existsSync('build/native/Release/stillpoint.node')) rmSync(CODE, { force: true });
else if (!isKept()) {
  const script = scriptOf();
  const module = { exports: {} };
  script.runInThisContext()(module.exports, createRequire(file), module, file, dirname(file));
  const code = script.createCachedData();
  writeFileSync(CODE, Buffer.concat([digestOf(code), code]));
}

// For scripts/package: what must lie beside the bundle, and what is in it.
const outside = metafile.outputs[BUNDLE].imports
  .filter(({ external, path }) => external && path in dependencies)
  .map(({ path }) => path);
const inside = BUNDLED.filter((name) =>
  Object.keys(metafile.inputs).some((file) => file.startsWith(`node_modules/${name}/`)),
);
writeFileSync(
  'build/bundle/packages.json',
  `${JSON.stringify({ outside: [...new Set(outside)].sort(), inside }, null, 2)}\n`,
);
