/** What is seen of the journals of this machine's taps: by `status`, metrics and notifications. */
import { z } from 'zod';

const text = z.string();
const time = text.nullable();

/** Of one device at its receiver. */
export const journalViewSchema = z.strictObject({
  device: text,
  tap: text,
  /** Its address; null: there is none. */
  receiver: time,
  /**
   * `shipped`: all is well. `behind`: it can't be shipped now. `broken`: the next point begins a new one.
   * `none`: the next point begins one. `refused`: it is not shipped at all.
   */
  state: z.enum(['shipped', 'behind', 'broken', 'none', 'refused']),
  /** All writes before it are at the receiver. Null: not known. */
  shippedThrough: time,
  /** Null: not known. */
  lagMs: z.number().nullable(),
  /** Of a broken one. */
  brokenAt: time,
  /** A clause; null: nothing is wrong. */
  problem: time,
});
export type JournalView = z.infer<typeof journalViewSchema>;
