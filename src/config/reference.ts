/** docs/configuration.md, made of the schema. scripts/config-reference.mjs writes it, a test compares. */
import { agentFields } from './schema/agent.js';
import type { AnyKey, Fields, ValueKey } from './schema/kinds.js';
import { receiverFields } from './schema/receiver.js';
import { tomlKey, tomlLiteral } from './toml/write.js';

const HEAD = `# Configuration

Made from the schema by \`scripts/config-reference.mjs\`: change \`src/config/schema/\`, not this file.

The configuration is in \`/etc/stillpoint\` for root, and in \`~/.config/stillpoint\` for other users. \`--config DIR\` or STILLPOINT_CONFIG name
another place. A state directory that is named with \`--state\` has its own, \`config\` in it. All files may be missing.

| file | of |
|---|---|
| \`agent.toml\`, then \`agent.d/*.toml\` by name | the agent: which devices, when and how |
| \`receiver.toml\`, then \`receiver.d/*.toml\` by name | the receiver of the store that \`store\` names |

The files are [TOML 1.0](https://toml.io/en/v1.0.0). Of a key that several files have, the last counts. Tables in double brackets, as
\`[[device]]\`, add up. Commands write drop-ins: \`agent add\` writes \`agent.d/NAME.toml\`, and \`agent remove\` removes it.

\`\`\`sh
stillpoint config check                    # everything that is wrong, with file, line and key
stillpoint config check ./agent.toml       # of a file that is not in use yet
stillpoint config show                     # all values that apply, and where each is written
\`\`\`

A running agent reads changes on SIGHUP. If anything is wrong, it says so and continues with what it has.

- **Periods** are a number and a unit: \`90m\`, \`12h\`, \`7d\`, \`4w\`.
- **Schedules** are \`every 6h\`, or calendar expressions as those of systemd: \`daily\`, \`Mon..Fri 02:00\`, \`*-*-1 03:30\`, \`*-*~1 18:00\` (the
  last day of the month), \`02:00,14:00\`, \`*:0/15\`, \`02:00 Europe/Berlin\`; several with semicolons. A time that the clock skips in
  spring comes as much later as the clock jumps; one that it shows twice in autumn counts once. Missed runs are made up for by one.
`;

export function reference(): string {
  return [HEAD, ...chapter('agent.toml', agentFields), ...chapter('receiver.toml', receiverFields)].join(
    '\n',
  );
}

function chapter(file: string, fields: Fields): string[] {
  return [`## ${file}`, '', ...table(Object.entries(fields)), ...sections(fields, '')];
}

/** @param above of the table that they are in, with its dot */
function sections(fields: Fields, above: string): string[] {
  return Object.entries(fields).flatMap(([name, key]) =>
    key.kind === 'value' ? [] : section(`${above}${name}`, key),
  );
}

function section(name: string, key: AnyKey): string[] {
  const title = key.kind === 'list' ? `[[${name}]]` : `[${name}]`;
  const most = key.kind === 'list' || key.kind === 'named' ? ` At most ${key.most}.` : '';
  const keys: [string, AnyKey][] =
    key.kind === 'named' ? [[key.names, key.each]] : key.kind === 'value' ? [] : Object.entries(key.fields);
  const inner = key.kind === 'table' || key.kind === 'list' ? sections(key.fields, `${name}.`) : [];
  return [`### \`${title}\``, '', `${key.about}${most}`, '', ...table(keys), ...inner];
}

function table(keys: readonly (readonly [string, AnyKey])[]): string[] {
  const rows = keys.flatMap(([name, key]) => (key.kind === 'value' ? [row(name, key)] : []));
  return ['| key | what it is | allowed | preset |', '|---|---|---|---|', ...rows, ''];
}

function row(name: string, key: ValueKey<unknown>): string {
  const { about, allowed, preset, otherwise, unit, example } = key;
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const standing = preset === undefined ? otherwise : `\`${tomlLiteral(preset)}\``;
  const label = /^[a-z-]+$/.test(name) ? `\`${tomlKey(name)}\`` : name;
  const sample = `For example \`${tomlLiteral(example)}\`.`;
  const where = unit === null ? allowed : `${allowed}, in ${unit}`;
  return `| ${label} | ${cell(`${about} ${sample}`)} | ${cell(where)} | ${cell(standing)} |`;
}
