/** What becomes of points, in the audit log. */
import type { AuditEvent } from './entry.js';
import type { Trail } from './trail.js';

/** As src/receiver/retention/events.ts has them. */
interface Told {
  readonly type: string;
  readonly agent?: string;
  readonly device?: string;
  readonly sequence?: number;
  readonly pointId?: string;
  readonly by?: string;
  readonly reason?: string | null;
  readonly reasons?: readonly string[];
}

const ACTS: Readonly<Record<string, Pick<AuditEvent, 'who' | 'what'>>> = {
  'point-removed': { who: 'retention', what: 'point-removed' },
  'point-pinned': { who: 'operator', what: 'pin' },
  'point-unpinned': { who: 'operator', what: 'unpin' },
};

/** Entered when it has happened; the store's marks and settings say it too, if the log can't be written. */
export function noteRetention({ log }: Pick<Trail, 'log'>, told: Told): void {
  const { type, agent, device, sequence, pointId, by, reason, reasons } = told;
  const act = ACTS[type] ?? { who: 'operator', what: 'setting' };
  log.note({
    ...act,
    who: by === 'forget' ? 'operator' : act.who,
    ...{ result: 'done', agent, device },
    point: device === undefined || sequence === undefined ? pointId : `${device}@${sequence}`,
    detail: act.what === 'setting' ? type : (reason ?? reasons?.join('; ')),
  });
}
