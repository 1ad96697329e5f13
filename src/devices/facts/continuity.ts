/**
 * Marks of continuity: texts of facts that stay equal only while nobody changes a device or an image. Two
 * equal marks prove that the content is the same at both times and was the same between them. Null means that
 * the available facts prove nothing: then no session may be resumed.
 *
 * Each has the boot id: after a crash of the machine, a file may have the times of a write without its bytes,
 * and counters start again.
 */
import { readFile } from 'node:fs/promises';
import { type ImageFacts, whyUnprovenBlock, whyUnprovenImage } from '../../domain/device/instant-proof.js';
import type { BlockState } from './block-facts.js';

export async function imageContinuity(facts: ImageFacts): Promise<string | null> {
  const bootId = await readBootId();
  if (bootId === null || whyUnprovenImage(facts) !== null) return null;
  return `image ${bootId} ${facts.key}:${facts.sizeBytes}:${facts.times}`;
}

/**
 * What stands on other devices can be changed through them. Without the sequence, another disk
 * may have the same number.
 */
export async function blockContinuity({
  facts,
  diskSequence,
  isStacked,
}: BlockState): Promise<string | null> {
  const bootId = await readBootId();
  if (bootId === null || diskSequence === null || isStacked || whyUnprovenBlock(facts) !== null) return null;
  const below = facts.below.map(({ past }) => ` ${past}`).join('');
  return `block ${bootId} ${facts.key} ${facts.written}${below}`;
}

async function readBootId(): Promise<string | null> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim() || null;
}
