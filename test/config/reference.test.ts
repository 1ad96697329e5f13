/** The reference is that of the schema, and every sample of TOML in the documents is a configuration. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { checkAgentConfig } from '../../src/config/agent-config.js';
import { faultText } from '../../src/config/load/faults.js';
import { checkReceiverConfig } from '../../src/config/receiver-config.js';
import { reference } from '../../src/config/reference.js';
import { agentFields } from '../../src/config/schema/agent.js';
import type { AnyKey, ValueKey } from '../../src/config/schema/kinds.js';
import { receiverFields } from '../../src/config/schema/receiver.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { projectFiles } from '../helpers/source-files.js';

test('docs/configuration.md is up to date', (t) => {
  t.is(readFileSync('docs/configuration.md', 'utf8'), reference(), 'Run node scripts/config-reference.mjs.');
});

function valuesIn(key: AnyKey): ValueKey<unknown>[] {
  if (key.kind === 'value') return [key];
  return key.kind === 'named' ? [key.each] : Object.values(key.fields).flatMap(valuesIn);
}

test('presets and examples of the schema are values of it', (t) => {
  for (const key of [...Object.values(agentFields), ...Object.values(receiverFields)].flatMap(valuesIn)) {
    t.true(key.schema.safeParse(key.example).success, `${key.about} ${JSON.stringify(key.example)}`);
    if (key.preset !== undefined) t.true(key.schema.safeParse(key.preset).success, key.about);
    t.true(key.about.endsWith('.') && key.about.length < 200, key.about);
  }
});

/** Blocks of TOML, and the file that the first line names: `# agent.toml`. */
function samples(): { place: string; text: string; kind: 'agent' | 'receiver' }[] {
  return projectFiles()
    .filter((file) => file.endsWith('.md'))
    .flatMap((file) => {
      const text = readFileSync(file, 'utf8');
      return [...text.matchAll(/^```toml\n(.*?)^```$/gms)].map(([, block = ''], at) => ({
        place: `${file}, sample ${at + 1}`,
        text: block,
        kind: /^# .*receiver(\.toml|\.d\/)/.test(block) ? ('receiver' as const) : ('agent' as const),
      }));
    });
}

test('every sample in the documents is right', async (t) => {
  const directory = await tempDir(t);
  const all = samples();
  t.true(all.length >= 3, `${all.length}`);
  t.true(all.some(({ kind }) => kind === 'receiver'));
  for (const { place, text, kind } of all) {
    t.regex(text, /^# .*(agent|receiver)(\.toml|\.d\/)/, `${place}: its first line names its file`);
    const file = join(directory, `${kind}.toml`);
    await writeFile(file, text);
    const check = kind === 'agent' ? checkAgentConfig : checkReceiverConfig;
    t.deepEqual((await check(directory, [file])).faults.map(faultText), [], place);
  }
});
