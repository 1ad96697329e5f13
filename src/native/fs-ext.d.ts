/** The part of fs-ext that is used: advisory locks that die with their process. */
declare module 'fs-ext' {
  export function flock(
    fileDescriptor: number,
    flags: 'ex' | 'exnb' | 'sh' | 'shnb' | 'un',
    callback: (error: NodeJS.ErrnoException | null) => void,
  ): void;
  export function flockSync(fileDescriptor: number, flags: 'ex' | 'exnb' | 'sh' | 'shnb' | 'un'): void;
}
