/** Holds a cut of a device for a test that kills it: cutter.js DEVICE. Prints the freezer's process id. */
import { prepareLive } from '../../../../../src/capture/providers/live/live.js';
import { freeze } from '../../../../../src/capture/quiesce/freeze.js';
import { freezersOf } from '../../../../helpers/disks/freezable.js';
import { HOLD } from '../../../../helpers/worlds/quiesce.js';

const member = await prepareLive(process.argv[2] ?? '', HOLD);
await freeze([], { deadlineMs: 60_000, cuts: [member.cutting?.descriptors ?? []] });
process.stdout.write(`${freezersOf(process.pid)[0]}\n`);
setInterval(() => undefined, 60_000);
