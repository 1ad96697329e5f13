/**
 * The border to the C++ addon: every native class and function is declared in this folder, by subject.
 *
 * Threads: functions that return a promise work on native threads and settle on the JavaScript thread; all others return at
 * once. Each `close()` waits for work in flight and then frees; calls after it throw code `closed`.
 * Errors: `NativeError`, with a `code` (an errno name such as `EIO`, or one of NativeErrorCode) and, where known, `path`,
 * `byteOffset`. Rooms above translate them to StillpointError.
 * Ownership: a Buffer passed to a promise-returning call must not be changed until it settles.
 */
export * from './addon.js';
export * from './batch.js';
export * from './constants.js';
export * from './device.js';
export * from './digest.js';
export * from './errors.js';
export * from './pack.js';
export * from './patch.js';
export * from './paths.js';
export * from './restore.js';
export * from './scan.js';
export * from './tap.js';
export * from './tree.js';
