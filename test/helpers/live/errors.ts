/** What a failed command says with `--json`: its last line. */
export interface ErrorLine {
  readonly event?: string;
  readonly code?: string;
  readonly thing?: string;
  readonly reason?: string;
  readonly remedy?: string;
}

export function errorOf(stdout: string): ErrorLine {
  try {
    return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as ErrorLine;
  } catch {
    return {};
  }
}
