/** The target of a restore: a block device, an existing image, a new image. */
import type { Device } from '../../native/index.js';

export interface RestoreTarget {
  /** Where it really is: links are followed, and a new image has a temporary name. */
  readonly path: string;
  /**
   * Of its present size; an image of another size than the point's is another object
   * after `prepare` and `resize`.
   */
  readonly device: Device;
  /** It may hold other bytes: zeros must be written too, and what it holds already need not be. */
  readonly isReused: boolean;
  /** Under its own name, where everybody sees it. */
  readonly isInPlace: boolean;
  /** Before the first write: makes an image longer that is shorter than the point. */
  prepare(): Promise<void>;
  /** Gives an image the point's size. */
  resize(): Promise<void>;
  /**
   * The restore has failed: takes back what can be.
   * @param isMarked the mark of a half restored target is there, or may be
   * @returns nothing of the restore is left in it
   */
  undo(isMarked: boolean): Promise<boolean>;
  /**
   * All is written and flushed: gives a new image its name, and shows a disk's new partitions.
   * @returns warnings
   */
  complete(): Promise<readonly string[]>;
  /** Harmless after `complete`; before it, nothing of a new image remains. */
  close(): Promise<void>;
}

/** What is kept from others while a target is written. */
export interface Held {
  release(): Promise<void>;
}
