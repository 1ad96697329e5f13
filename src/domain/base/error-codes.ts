/**
 * Every error code, in one table: the exit code of a command that fails with it, its HTTP status, whether a
 * retry may help, and what it means. Codes are for programs, so they never change their meaning.
 * docs/errors.md shows the table to users; a test compares the two.
 */

/** What kind of failure it is for a command: src/cli/output/exit-codes.ts has the number of each. */
export type FailureKind = 'failed' | 'usage' | 'damaged' | 'noAccess';

export interface ErrorRow {
  readonly exit: FailureKind;
  /** For proxies and logs; programs read the code. */
  readonly httpStatus: number;
  /** Unless the error says otherwise. */
  readonly permanent: boolean;
  /** One sentence for users. */
  readonly meaning: string;
}

/** Whether the same request may succeed when it is tried again, unless the error says otherwise. */
const PERMANENT = true;
const TEMPORARY = false;

function row(exit: FailureKind, httpStatus: number, permanent: boolean, meaning: string): ErrorRow {
  return { exit, httpStatus, permanent, meaning };
}

export const ERRORS = {
  // input
  usage: row('usage', 400, PERMANENT, 'The command line is incomplete, or asks for the impossible.'),
  'bad-name': row('usage', 400, PERMANENT, 'The name of an agent or a device is not allowed.'),
  'bad-geometry': row('usage', 400, PERMANENT, "A size or a block size is impossible, or two don't match."),
  'bad-point-name': row('usage', 400, PERMANENT, 'The name of a point is invalid or ambiguous.'),
  config: row('usage', 500, PERMANENT, 'A setting, or a file of settings or of state, is wrong.'),
  // device
  'device-not-found': row('failed', 404, PERMANENT, 'There is no such device or image.'),
  'device-in-use': row('failed', 409, PERMANENT, 'The device is mounted, open or being written to.'),
  'device-changed': row('failed', 409, PERMANENT, 'The device is not what it was at the beginning.'),
  'device-identity': row('failed', 409, PERMANENT, 'The points under this name are of another device.'),
  'device-io': row('failed', 500, PERMANENT, "The device can't be read or written."),
  'device-too-small': row('failed', 409, PERMANENT, 'The target is smaller than the point.'),
  'device-sector-size': row('failed', 409, PERMANENT, 'The sectors of the target have another size.'),
  'half-restored': row('failed', 409, PERMANENT, 'A restore to the device was not finished.'),
  hook: row('failed', 500, TEMPORARY, 'A hook failed before the instant of the backup.'),
  frozen: row('failed', 500, PERMANENT, 'A file system is still frozen: thaw it by hand.'),
  'snapshot-lost': row('failed', 500, PERMANENT, 'The snapshot was given up before its backup ended.'),
  // protocol and session
  'bad-message': row('failed', 400, PERMANENT, 'A message is not one of the protocol.'),
  'bad-batch': row('failed', 422, PERMANENT, 'A batch of blocks is damaged; nothing of it was kept.'),
  'bad-digest': row('damaged', 422, PERMANENT, 'Bytes do not give the digest that they should.'),
  'bad-patch': row('failed', 422, PERMANENT, 'A patch gives the wrong block; send whole blocks.'),
  'too-large': row('failed', 413, PERMANENT, 'A message, or what it asks for, is over a limit.'),
  'out-of-order': row('failed', 409, TEMPORARY, 'A message came before the batches that it follows.'),
  'session-unknown': row('failed', 404, PERMANENT, 'No such session is open.'),
  'session-closed': row('failed', 409, PERMANENT, 'The session is committed and takes nothing more.'),
  'session-busy': row('failed', 409, TEMPORARY, 'Another session or command is at work on the device.'),
  'root-mismatch': row('failed', 422, PERMANENT, 'What arrived does not give the root; no point is made.'),
  'base-mismatch': row('failed', 409, PERMANENT, 'The session is not a difference to the last point.'),
  'group-failed': row('failed', 409, PERMANENT, 'Another member of the group failed, so none has a point.'),
  version: row('failed', 426, PERMANENT, 'The other side or the store is of another version.'),
  // access
  'not-enrolled': row('noAccess', 401, PERMANENT, 'This machine is not enrolled at the receiver.'),
  unauthorized: row('noAccess', 401, PERMANENT, 'The receiver refuses the certificate of this machine.'),
  'agent-revoked': row('noAccess', 403, PERMANENT, 'The receiver has shut this agent out.'),
  quota: row('failed', 403, PERMANENT, 'The agent is at a limit that the receiver has set for it.'),
  'invite-invalid': row('noAccess', 403, PERMANENT, 'The invite code is wrong, or was used by another key.'),
  'invite-expired': row('noAccess', 403, PERMANENT, 'The invite code is too old.'),
  'identity-mismatch': row('noAccess', 409, PERMANENT, 'The other side is not the one that is known here.'),
  // store
  'store-locked': row('failed', 503, TEMPORARY, 'Another process has the store open.'),
  'store-missing': row('failed', 500, PERMANENT, 'There is no store in the directory.'),
  'store-changed': row('failed', 409, PERMANENT, 'The store is another one, or lost acknowledged points.'),
  'store-damaged': row('damaged', 500, PERMANENT, 'The store has lost bytes, or holds wrong ones.'),
  'store-full': row('failed', 507, TEMPORARY, 'The disk of the store is full.'),
  'store-io': row('failed', 500, TEMPORARY, "The store can't be read or written."),
  'point-protected': row('failed', 409, PERMANENT, 'The point may not be removed.'),
  'point-unknown': row('failed', 404, PERMANENT, 'There is no such point.'),
  'device-unknown': row('failed', 404, PERMANENT, 'No device is known under this name.'),
  'journal-unknown': row('failed', 404, PERMANENT, 'The receiver has no such journal.'),
  'journal-closed': row('failed', 409, PERMANENT, 'The journal has ended and takes nothing more.'),
  'journal-gap': row('failed', 409, PERMANENT, 'Records of the journal are missing in between.'),
  'journal-faulty': row('damaged', 409, PERMANENT, 'A later point showed that the journal is wrong there.'),
  // link
  unreachable: row('noAccess', 503, TEMPORARY, 'No connection to the other side can be made.'),
  'connection-lost': row('noAccess', 400, TEMPORARY, 'The connection broke.'),
  timeout: row('noAccess', 408, TEMPORARY, 'The other side did not answer in time.'),
  busy: row('noAccess', 503, TEMPORARY, 'The other side has too much to do at the moment.'),
  cancelled: row('failed', 409, PERMANENT, 'A signal, an order or a closing program ended it.'),
  // of this process: what the system refused, and no other code says
  system: row('failed', 500, PERMANENT, 'The system refused a file, memory, or a descriptor.'),
  internal: row('failed', 500, PERMANENT, 'The program failed for an unknown reason.'),
} as const satisfies Readonly<Record<string, ErrorRow>>;

export type ErrorCode = keyof typeof ERRORS;

export const ERROR_CODES = Object.keys(ERRORS) as readonly ErrorCode[] as readonly [
  ErrorCode,
  ...ErrorCode[],
];
