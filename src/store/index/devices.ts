/** The table of devices, by `agent/device`: which number each has in the table of what devices hold. */
import type { Tables } from './tables.js';
import { uint32 } from './values.js';
import { written } from './writes.js';

export type DeviceNumbers = Map<string, Promise<number>>;

/** Names of an agent's devices. */
export function namesOf(numbers: DeviceNumbers, agent: string): string[] {
  const prefix = `${agent}/`;
  return [...numbers.keys()].flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));
}

/** What the devices of an agent hold is held by those of another name. All of them, or none. */
export async function renameDevices(
  path: string,
  { root, devices }: Tables,
  known: DeviceNumbers,
  from: string,
  to: string,
): Promise<void> {
  const numbers: [string, number][] = [];
  for (const device of namesOf(known, from)) {
    const number = await known.get(`${from}/${device}`);
    if (number !== undefined) numbers.push([device, number]);
  }
  if (numbers.length === 0) return;
  const move = () => {
    for (const [device, number] of numbers) {
      devices.put(Buffer.from(`${to}/${device}`), uint32(number));
      devices.remove(Buffer.from(`${from}/${device}`));
    }
  };
  await written(path, () => root.transaction(move), 2 * numbers.length);
  for (const [device, number] of numbers) {
    known.delete(`${from}/${device}`);
    known.set(`${to}/${device}`, Promise.resolve(number));
  }
}
