/**
 * What has happened to the source of a tap while it serves, and what follows. Pure; the facts come from the
 * native tap and source.ts.
 *
 * | the source               | a backup       | its users                                   | the map |
 * |--------------------------|----------------|---------------------------------------------|---------|
 * | is as it was             | goes on        | read and write                              | counts  |
 * | shrank, or is gone       | refused        | EIO behind its present end, also for writes | void    |
 * | shrank and grew again    | goes on, warns | read zeros where it was cut                 | void    |
 * | grew                     | goes on, warns | have the old size                           | counts  |
 * | has another at its path, | refused        | go on with what they have                   | counts  |
 * | or nothing               |                |                                             |         |
 */

export interface SourceReport {
  /** Now; 0: it is gone. */
  readonly sizeBytes: number;
  /** The smallest size that was seen since the tap started. */
  readonly leastBytes: number;
  /** What its path leads to now. */
  readonly place: SourcePlace;
}

export type SourcePlace = 'same' | 'other' | 'missing';

export interface SourceProblem {
  /** A clause. */
  readonly reason: string;
  readonly remedy: string;
  /** There can be no point that says what it is. */
  readonly refused: boolean;
}

/**
 * @param tap its name, and the size that its users see.
 * @param source undefined: the tap is of a release that does not tell.
 */
export function sourceProblem(
  { name, sizeBytes }: { readonly name: string; readonly sizeBytes: number },
  source: SourceReport | undefined,
): SourceProblem | null {
  if (source === undefined) return null;
  const restart = `stillpoint tap stop ${name}; stillpoint tap start ${name}`;
  if (source.sizeBytes === 0 && sizeBytes > 0) {
    return {
      reason: 'nothing is left of it: it was emptied, or the device is gone',
      remedy: `Stop the tap (stillpoint tap stop ${name}), attach the device again or restore it from a point, and start the tap`,
      refused: true,
    };
  }
  if (source.sizeBytes < sizeBytes) {
    return {
      reason: `it shrank from ${sizeBytes} to ${source.sizeBytes} bytes under its tap`,
      remedy: `Stop the tap, restore its source from a point, and start it again; if the smaller size is meant: ${restart}`,
      refused: true,
    };
  }
  if (source.place !== 'same') {
    return {
      reason:
        source.place === 'other'
          ? 'something else is now in the place of what its tap serves'
          : 'its path no longer leads to what its tap serves: that was removed or renamed, or its file system was unmounted',
      remedy:
        `Put it back. If it was deleted, copy it from the address that "stillpoint tap status ${name}" shows ` +
        'before the tap is stopped, which loses it' +
        (source.place === 'other' ? `. To continue with what is there now: ${restart}` : ''),
      refused: true,
    };
  }
  if (source.leastBytes < sizeBytes) {
    return {
      reason: `it was cut to ${source.leastBytes} bytes under its tap, and has grown again: behind that it may have zeros in place of its data`,
      remedy: `Check it, or restore it from an earlier point. This warning ends when the tap is restarted: ${restart}`,
      refused: false,
    };
  }
  if (source.sizeBytes > sizeBytes) {
    return {
      reason: `it grew from ${sizeBytes} to ${source.sizeBytes} bytes under its tap; users and points keep the old size`,
      remedy: `To use the new size: ${restart}`,
      refused: false,
    };
  }
  return null;
}
