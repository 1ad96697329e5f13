// Runs the commands of docs/tour.md in a directory of their own, and writes what they print into it. After
// "npm run build":
//   node scripts/tour.mjs [--print]     --print: the new text goes to standard output, and no file is changed
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const TOUR = 'docs/tour.md';
/** What the text says, and what stands for it here. */
const DIRECTORY = '/tmp/tour';
const PORT = '8440';
/** Stands before the output of each command. */
const MARK = '\u001e';

const text = readFileSync(TOUR, 'utf8');
const BLOCKS = /^```console\n(.*?)^```$/gms;
const commandsOf = (block) => block.split('\n').filter((line) => line.startsWith('$ '));
const commands = [...text.matchAll(BLOCKS)].flatMap(([, block]) => commandsOf(block));

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return String(port);
}

/** All commands in one shell. One that stays in the background has printed a line before the next begins. */
function shellScript() {
  const lines = commands.map((line) => {
    const command = line.slice(2);
    const [, log] = /> ?(\S+) 2>&1 &$/.exec(command) ?? [];
    const wait = log === undefined ? '' : `\nfor i in {1..600}; do [ -s ${log} ] && break; sleep 0.1; done`;
    return `printf '${MARK}'\n${command}${wait}`;
  });
  return `exec 2>&1\n${lines.join('\n')}\nprintf '${MARK}'\nkill $(jobs -p) 2>/dev/null\nwait\n`;
}

const home = mkdtempSync(join(tmpdir(), 'stillpoint-tour.'));
const directory = join(home, 'tour');
const port = await freePort();
const here = (script) => script.replaceAll(DIRECTORY, directory).replaceAll(PORT, port);
const there = (output) => output.replaceAll(directory, DIRECTORY).replaceAll(port, PORT);

const inherited = Object.entries(process.env).filter(([name]) => !/^(STILLPOINT_|LC_|XDG_)/.test(name));
const environment = {
  ...Object.fromEntries(inherited),
  ...{ HOME: home, TZ: 'UTC', LANG: 'C.UTF-8', NO_COLOR: '1' },
  PATH: `${home}/bin:${process.env.PATH}:/usr/sbin:/sbin`,
};
symlinkSync(resolve('bin'), join(home, 'bin'));
const shell = spawn('bash', ['-c', here(shellScript())], {
  ...{ cwd: home, env: environment, detached: true },
  stdio: ['ignore', 'pipe', 'inherit'],
});
const end = () => {
  try {
    process.kill(-shell.pid, 'SIGKILL');
  } catch {
    // Nothing of it runs any more.
  }
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
};
process.once('SIGTERM', () => {
  end();
  process.exit(143);
});
let printed = '';
shell.stdout.setEncoding('utf8').on('data', (chunk) => {
  printed += chunk;
});
await once(shell, 'close');
end();

const outputs = there(printed).split(MARK).slice(1);
const fresh = text.replaceAll(BLOCKS, (_, block) => {
  const shown = commandsOf(block).map((line) =>
    `${line}\n${(outputs.shift() ?? '').replace(/^\n+/, '')}`.trimEnd(),
  );
  return `\`\`\`console\n${shown.join('\n')}\n\`\`\``;
});
if (process.argv.includes('--print')) process.stdout.write(fresh);
else writeFileSync(TOUR, fresh);
