/**
 * The part of fs-ext that is used: advisory locks that die with their process, and the flags of open files.
 */
declare module 'fs-ext' {
  export function flock(
    fileDescriptor: number,
    flags: 'ex' | 'exnb' | 'sh' | 'shnb' | 'un',
    callback: (error: NodeJS.ErrnoException | null) => void,
  ): void;
  export const constants: { readonly FD_CLOEXEC: number };
  export function fcntlSync(fileDescriptor: number, command: 'setfd', flags: number): void;
  export function flockSync(fileDescriptor: number, flags: 'ex' | 'exnb' | 'sh' | 'shnb' | 'un'): void;
}
