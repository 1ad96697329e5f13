/** Whether a device, or an image, can prove by itself that it stood still. */
import { stat } from 'node:fs/promises';
import { readBlockState } from '../../../devices/facts/block-facts.js';
import { readImageFacts } from '../../../devices/facts/image-facts.js';
import { deviceNumber } from '../../../devices/system/in-use.js';
import { whyUnprovenBlock, whyUnprovenImage } from '../../../domain/device/instant-proof.js';

/**
 * @returns why neither its times nor its counters can prove that it stood still, a clause; null: they can.
 */
export async function whyUnproven(path: string): Promise<string | null> {
  const status = await stat(path, { bigint: true });
  if (status.isFile()) {
    const facts = await readImageFacts(path);
    return facts === null ? null : whyUnprovenImage(facts);
  }
  const state = await readBlockState(deviceNumber(status.rdev));
  return state === null ? null : whyUnprovenBlock(state.facts);
}
