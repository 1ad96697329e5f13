/**
 * Misleading leftovers on a device that is larger than the point: the point's GPT has its second table where
 * its own disk ended, and beyond the point are signatures of the former content. They are reported with the
 * remedy; nothing is wiped unasked.
 */
import { z } from 'zod';
import { type Device, native } from '../../native/index.js';
import { runTool } from './tools.js';

const SIGNATURES = z.object({
  signatures: z.array(z.object({ offset: z.string(), type: z.string() })),
});

/** @param sizeBytes of the point that the device holds now */
export async function tellStale(
  path: string,
  sizeBytes: number,
  onNotice: (text: string) => void,
): Promise<void> {
  const device = await native.openDevice(path).catch(() => null);
  if (device === null) return;
  try {
    if (device.sizeBytes <= sizeBytes) return;
    const gpt = await readGpt(device);
    if (gpt !== null && gpt.secondEndBytes !== device.sizeBytes) {
      onNotice(
        `the second partition table of ${path} is not at its end, where programs look for it: sgdisk --move-second-header ${path}`,
      );
    }
    for (const { offset, type } of await signaturesBehind(path, sizeBytes)) {
      // It is written over by the remedy for the other.
      if (gpt !== null && type === 'gpt') continue;
      onNotice(
        `behind the point, ${path} still has a signature of its former content (${type}) that may mislead: wipefs --offset ${offset} ${path}`,
      );
    }
  } finally {
    await device.close();
  }
}

const GPT_SIGNATURE = 'EFI PART';
const ALTERNATE_SECTOR_OFFSET = 32;

/** Null: it has no GPT, or can't be read. */
async function readGpt(device: Device): Promise<{ readonly secondEndBytes: number } | null> {
  const sectorBytes = device.logicalSectorSize;
  if (device.sizeBytes < 2 * sectorBytes) return null;
  const header = await device.read(sectorBytes, sectorBytes).catch(() => null);
  if (header?.toString('latin1', 0, GPT_SIGNATURE.length) !== GPT_SIGNATURE) return null;
  const sector = Number(header.readBigUInt64LE(ALTERNATE_SECTOR_OFFSET));
  return { secondEndBytes: (sector + 1) * sectorBytes };
}

async function signaturesBehind(path: string, sizeBytes: number) {
  const { stdout } = await runTool('wipefs', ['--no-act', '--json', path]);
  const parsed = SIGNATURES.safeParse(parseJson(stdout));
  if (!parsed.success) return [];
  return parsed.data.signatures.filter(({ offset }) => Number(offset) >= sizeBytes);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
