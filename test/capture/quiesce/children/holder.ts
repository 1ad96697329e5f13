/**
 * Holds a freeze for a test that kills, stops or blocks it: holder.js DEADLINE_MS ID:PATH... Prints
 * `frozen FREEZER_PID`; then each line on its stdin is a command: `thaw` prints the result as JSON;
 * `spin MS` stops the event loop. A mount without an id is looked up: a mount namespace has ids of its own.
 */
import { createInterface } from 'node:readline';
import { freeze } from '../../../../src/capture/quiesce/freeze.js';
import { freezersOf, targetAt } from '../../../helpers/disks/freezable.js';

const [deadlineMs, ...mounts] = process.argv.slice(2);
const targets = await Promise.all(
  mounts.map((text) => {
    const colon = text.indexOf(':');
    const [id, path] = [text.slice(0, colon), text.slice(colon + 1)];
    return id === '' ? targetAt(path) : { id: Number(id), path };
  }),
);
const held = await freeze(targets, { deadlineMs: Number(deadlineMs) });

const [freezer] = freezersOf(process.pid);
process.stdout.write(`frozen ${freezer}\n`);

for await (const line of createInterface(process.stdin)) {
  const [command, argument] = line.split(' ');
  if (command === 'spin') {
    const end = performance.now() + Number(argument);
    while (performance.now() < end);
  }
  if (command === 'thaw') {
    process.stdout.write(`${JSON.stringify(await held.thaw())}\n`);
    break;
  }
}
