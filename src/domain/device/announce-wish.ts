/** Whom an instant is announced to (src/capture/quiesce/announce.ts). */
export interface AnnounceWish {
  /** `wall`, or the absolute path of an executable. */
  readonly program: string;
  readonly graceMs: number;
  /** Without it there is no instant. */
  readonly isRequired: boolean;
}

export const GRACE_DEFAULT_MS = 120_000;
