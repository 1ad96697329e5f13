/**
 * After a restore of a whole disk, the kernel still has the partitions of its former content: this tells it
 * to look again.
 */
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BlockNode, readBlockFamily, readFact } from '../../devices/system/block-sysfs.js';
import { deviceNumber } from '../../devices/system/in-use.js';
import { runTool, type ToolResult } from './tools.js';

const TRIES = 5;
const PAUSE_MS = 200;

/**
 * By the programs of util-linux, which every Linux has: `blockdev` asks the kernel to read the table;
 * where it can't (loop devices without that flag, a kernel without this kind of table), `partx` reads
 * it and tells the kernel.
 * @returns a warning, or none
 */
export async function rereadPartitions(path: string): Promise<string[]> {
  const family = await familyOf(path);
  // A partition, or a device that can have none, as most of device mapper.
  if (family === null || family.disk !== null || (await hasNoPartitions(family.self))) return [];
  const reread = await rereadByKernel(path);
  if (reread.code === 0 && (await partitionCount(path)) > 0) return [];
  const updated = await runTool('partx', ['--update', path]);
  if (updated.code === 0) return [];
  // There is no table, or none that anybody knows.
  if ((await partitionCount(path)) === 0) return [];
  const removed = isTableMissing(updated) ? await runTool('partx', ['--delete', path]) : updated;
  if (removed.code === 0) return [];
  const why = [reread, removed].map(({ message }) => message).find((message) => message !== '') ?? '';
  return [
    `the kernel still has the partitions of the former content of ${path} (${why}): stop what uses them and run "partprobe ${path}", or restart the machine`,
  ];
}

const isTableMissing = ({ message }: ToolResult): boolean => /failed to read partition table/.test(message);

/** udev may hold the disk for a moment. */
async function rereadByKernel(path: string): Promise<ToolResult> {
  for (let tries = 1; ; tries += 1) {
    const result = await runTool('blockdev', ['--rereadpt', path]);
    if (!/busy/i.test(result.message) || tries === TRIES) return result;
    await sleep(PAUSE_MS);
  }
}

async function familyOf(path: string) {
  return readBlockFamily(deviceNumber((await stat(path, { bigint: true })).rdev));
}

async function partitionCount(path: string): Promise<number> {
  return (await familyOf(path))?.partitions.length ?? 0;
}

async function hasNoPartitions({ directory }: BlockNode): Promise<boolean> {
  return (await readFact(directory, 'ext_range')) === '1';
}
