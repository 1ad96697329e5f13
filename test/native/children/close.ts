/**
 * Closes what a scan uses, and nothing else is left to do: the process must last until it is closed. argv:
 * directory.
 */
import { slowScan } from './world.js';

const { base } = await slowScan(process.argv[2] ?? '', 'base');
await base.close();
process.stdout.write('closed\n');
