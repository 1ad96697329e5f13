/**
 * Cuts a stream of bytes into lines, without their ends, however the bytes arrive. @param refuse must throw;
 * told as a clause what is wrong: a line longer than `bytesMax`, or a last one without its end.
 */
export async function* splitLines(
  chunks: AsyncIterable<Buffer>,
  bytesMax: number,
  refuse: (reason: string) => never,
): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      if (restBytes + end - start > bytesMax) refuse('a line is too long');
      yield Buffer.concat([...rest, chunk.subarray(start, end)]);
      rest = [];
      restBytes = 0;
      start = end + 1;
    }
    rest.push(chunk.subarray(start));
    restBytes += chunk.length - start;
    if (restBytes > bytesMax) refuse('a line is too long');
  }
  if (restBytes > 0) refuse('its last line is cut off');
}
