/**
 * Why a session ends without a point and why another one, in the same backup, can do better. Each message is
 * a clause.
 */

/** What is known of changes is not believed: another session reads everything. */
export class ChangesDoubted extends Error {
  override readonly name = 'ChangesDoubted';
}

/**
 * The session of an earlier process can't be gone on with: another one begins, and what had
 * arrived is not sent again.
 */
export class ResumeDoubted extends Error {
  override readonly name = 'ResumeDoubted';
}
