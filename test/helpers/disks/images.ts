/** Whole devices and images: copied, compared by other people's programs, and measured. */
import { execFileSync } from 'node:child_process';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Random } from '../seed.js';
import { run } from './loop-device.js';

/** Copies all bytes of a device or image into an image, holes for zeros. */
export function copyImage(from: string, to: string): void {
  run('dd', `if=${from}`, `of=${to}`, 'bs=1M', 'conv=sparse', 'status=none');
  run('truncate', '--size', String(sizeOf(from)), to);
}

/** Bytes of a device or image, as the kernel says. */
export function sizeOf(path: string): number {
  return path.startsWith('/dev/')
    ? Number(run('blockdev', '--getsize64', path))
    : Number(run('stat', '--format', '%s', path));
}

/** Null if `cmp` finds none; a difference in length is one. */
export function difference(a: string, b: string): string | null {
  try {
    run('cmp', a, b);
    return null;
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    return `${stdout ?? ''}${stderr ?? ''}${String(error)}`;
  }
}

/**
 * The digest of the whole content, by `b3sum` where it is installed, else by
 * `sha256sum`: never by our own code.
 */
export function contentDigest(path: string): string {
  try {
    return run('b3sum', '--no-names', path).trim();
  } catch {
    return run('sha256sum', path).split(' ')[0] ?? '';
  }
}

/** Bytes that a file occupies on its file system, holes not counted. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512;
}

/** Bytes in a directory's files, apparent. */
export function directoryBytes(path: string): number {
  return Number(execFileSync('du', ['--summarize', '--bytes', path], { encoding: 'utf8' }).split('\t')[0]);
}

export async function readRange(path: string, byteOffset: number, byteLength: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(byteLength), 0, byteLength, byteOffset);
    if (bytesRead !== byteLength) throw new Error(`${path}: ${bytesRead} bytes, not ${byteLength}`);
    return buffer;
  } finally {
    await file.close();
  }
}

/** All regular files, absolute. */
export async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Flips a random bit of a file, at a random place unless it is given. @returns where, for a message. */
export async function flipBit(path: string, random: Random, byteOffset?: number): Promise<string> {
  const file = await open(path, 'r+');
  try {
    const at = byteOffset ?? random.below((await file.stat()).size);
    const bit = random.below(8);
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ (1 << bit);
    await file.write(byte, 0, 1, at);
    return `bit ${bit} of byte ${at}`;
  } finally {
    await file.close();
  }
}
