/** A text that comes again and again, told only now and then. */

/** Another text is told at once. @param nowMs monotonic */
export function toldAgainAfter(
  pauseMs: number,
  tell: (text: string) => void,
  nowMs: () => number = () => performance.now(),
): (text: string) => void {
  let told: string | null = null;
  let toldAtMs = 0;
  return (text) => {
    if (text === told && nowMs() - toldAtMs < pauseMs) return;
    told = text;
    toldAtMs = nowMs();
    tell(text);
  };
}
