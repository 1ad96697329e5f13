/** All steps of a tap's hold, for tests that are about what is held. */
import type { TapControl } from '../../../src/tap/control/client.js';
import type { ControlHold, ControlHoldOptions } from '../../../src/tap/control/messages.js';

export async function holdAtOnce(
  control: TapControl,
  options: ControlHoldOptions,
  signal?: AbortSignal,
): Promise<ControlHold> {
  await control.prepare(options, signal);
  await control.closeGate({ barrierMs: 10_000, closedMs: 20_000 }, signal);
  return control.cut(signal);
}
