/** How much memory a running process takes. */
import { readFile } from 'node:fs/promises';

/** Resident anonymous bytes of a process (mapped files aside), or null once it is gone. */
export async function anonymousBytes(pid: number): Promise<number | null> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const match = /^RssAnon:\s+(\d+) kB$/m.exec(status);
    return match?.[1] === undefined ? null : Number(match[1]) * 1024;
  } catch {
    return null;
  }
}

/** Looks every few milliseconds until stopped. @returns a function that stops and gives the peak in bytes. */
export function watchPeak(pid: number): () => Promise<number> {
  let peak = 0;
  let stopped = false;
  const watching = (async () => {
    while (!stopped) {
      const bytes = await anonymousBytes(pid);
      if (bytes === null) break;
      peak = Math.max(peak, bytes);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return async () => {
    stopped = true;
    await watching;
    return peak;
  };
}
