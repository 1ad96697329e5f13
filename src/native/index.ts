/**
 * The border to the C++ addon: every native class and function is declared in this folder, by subject.
 *
 * Threads: functions that return a promise work on native threads and settle on the JavaScript thread; all
 * others return at once. Each `close()` waits for work in flight and then frees the memory; later calls throw
 * code `closed`. Errors: `NativeError`, with a `code` (an errno name such as `EIO`, or one of
 * NativeErrorCode) and, where known, `path`, `byteOffset`. Rooms above translate them to StillpointError.
 * Ownership: a Buffer passed to a promise-returning call must not be changed until it settles.
 */
export * from './addon.js';
export * from './border/batch.js';
export * from './border/constants.js';
export * from './border/device.js';
export * from './border/digest.js';
export * from './border/errors.js';
export * from './border/journal.js';
export * from './border/live.js';
export * from './border/pack.js';
export * from './border/patch.js';
export * from './border/reflink.js';
export * from './border/restore.js';
export * from './border/scan.js';
export * from './border/tap.js';
export * from './border/track.js';
export * from './border/tree.js';
