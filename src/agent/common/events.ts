/** What a running backup or restore tells its caller. The caller computes rates and remaining times. */
export type AgentEvent =
  | {
      readonly type: 'phase';
      readonly phase:
        | 'snapshot'
        | 'base'
        | 'compare'
        | 'check'
        | 'fetch-tree'
        | 'scan'
        | 'prove'
        | 'commit'
        | 'restore'
        | 'journal'
        | 'flush'
        | 'verify';
    }
  | {
      readonly type: 'progress';
      readonly doneBytes: number;
      readonly totalBytes: number;
      /** Raw bytes found to differ so far; backups only. */
      readonly changedBytes?: number;
      /** Request and answer bodies so far. */
      readonly wireBytes: number;
    }
  /** Of a device that is copied in passes while it changes: what the next one reads. */
  | {
      readonly type: 'pass';
      /** From 1. */
      readonly pass: number;
      readonly toReadBytes: number;
      /** Of blocks so far that were sent and had changed again. */
      readonly sentAgainBytes: number;
    }
  /** Something that the user may want to know and need not act on. */
  | { readonly type: 'notice'; readonly text: string }
  | { readonly type: 'warning'; readonly text: string };

export type OnAgentEvent = (event: AgentEvent) => void;

const PROGRESS_INTERVAL_MS = 200;

/** Calls until the returned function is called; that calls once more. */
export function everyInterval(report: () => void): () => void {
  const timer = setInterval(report, PROGRESS_INTERVAL_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    report();
  };
}
