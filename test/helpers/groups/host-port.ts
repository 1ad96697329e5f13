/** A host of a group over several hosts, step by step, over its port to the receiver. */
import type { StillpointError } from '../../../src/domain/base/errors.js';
import type { GroupCommand, GroupReport } from '../../../src/domain/group/steps.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { blocksOf, newSessionId } from '../../conformance/receiver.js';
import { batchOf, rootOf } from '../bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY } from '../bytes/requests.js';

export class HostPort {
  readonly sessionIds: string[] = [];
  readonly port: ReceiverPort;
  readonly #runId: string;
  readonly #devices: readonly string[];

  constructor(port: ReceiverPort, runId: string, devices: readonly string[]) {
    this.port = port;
    this.#runId = runId;
    this.#devices = devices;
  }

  says(report: GroupReport, waitMs = 10_000): Promise<GroupCommand> {
    return this.port.groupStep({ runId: this.#runId, report, waitMs });
  }

  /** Through the instant. */
  async cuts(): Promise<string> {
    const rest = await this.says({ state: 'ready', try: 1 });
    if (rest.do !== 'rest') throw new Error(`not to rest: ${rest.do}`);
    const close = await this.says({ state: 'rested', try: rest.try });
    if (close.do !== 'close') throw new Error(`not closed: ${close.do}`);
    const cut = await this.says({ state: 'closed', try: close.try });
    if (cut.do !== 'cut') throw new Error(`not cut: ${cut.do}`);
    const stalls = this.#devices.map((device) => ({ device, stallMs: 3 }));
    await this.says({ state: 'cut', try: cut.try, stalls }, 0);
    return cut.instant;
  }

  async sends(): Promise<GroupReport> {
    for (const [at, device] of this.#devices.entries()) {
      const sessionId = newSessionId();
      this.sessionIds.push(sessionId);
      await this.port.begin(beginRequest({ device, sessionId }));
      await this.port.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([at], 1)));
    }
    return { state: 'transferred', kind: 'crash', sessionIds: this.sessionIds };
  }

  /** As an agent does: a commit that is told to wait is sent again. */
  async commits(command: GroupCommand, instant: string): Promise<Point[]> {
    if (command.do !== 'commit') throw new Error(`no commit: ${JSON.stringify(command)}`);
    const { kind, group } = command;
    return Promise.all(
      this.sessionIds.map(async (sessionId, at) => {
        const root = rootOf(GEOMETRY, blocksOf([at], 1));
        const request = commitRequest({ batchCount: 1, root, instant, kind, group });
        for (;;) {
          try {
            return await this.port.commit(sessionId, request);
          } catch (error) {
            if ((error as StillpointError).code !== 'busy') throw error;
          }
        }
      }),
    );
  }
}
