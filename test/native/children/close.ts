/**
 * Closes what a scan uses, twice, and nothing else is left to do: the process must last until it is closed,
 * and no longer. argv: directory.
 */
import { slowScan } from './world.js';

const { base } = await slowScan(process.argv[2] ?? '', 'base');
await Promise.all([base.close(), base.close()]);
process.stdout.write('closed\n');
