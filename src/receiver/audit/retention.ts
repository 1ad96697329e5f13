/** What becomes of points, in the audit log. */
import type { AuditEvent } from './entry.js';
import type { AuditLog } from './log.js';

/** As src/receiver/retention/events.ts has them. */
interface Told {
  readonly type: string;
  readonly agent?: string;
  readonly device?: string;
  readonly sequence?: number;
  readonly pointId?: string;
  readonly journalId?: string;
  readonly bytes?: number;
  readonly by?: string;
  readonly settings?: { readonly managedBy: string | null };
  readonly reasons?: readonly string[];
}

/** A wish of a command, as src/receiver/retention/events.ts has them. */
interface Wished {
  readonly to: string;
  readonly agent?: string | null;
  readonly device?: string | null;
  readonly point?: string;
  readonly pointCount?: number;
}

/** Of wishes that change something. */
const WISHES: Readonly<Record<string, AuditEvent['what']>> = {
  set: 'setting',
  'confirm-clock': 'setting',
  reset: 'setting',
  prune: 'prune',
  forget: 'forget',
  'forget-device': 'forget',
  pin: 'pin',
  unpin: 'unpin',
};

/** Carries a command's wish out, as an act of the operator if it changes something. */
export function recordWish<T>(log: AuditLog, wish: Wished, work: () => Promise<T>): Promise<T> {
  const { to, agent, device, point, pointCount: count } = wish;
  const what = WISHES[to];
  if (what === undefined) return work();
  const named = { agent: agent ?? undefined, device: device ?? undefined, point };
  const detail = what === 'setting' ? `retention: ${to}` : undefined;
  return log.act({ who: 'operator', what, ...named, count, detail }, work);
}

/**
 * What became of points, entered when it has happened: the store's marks say it too, if the log can't be
 * written. And what a configuration says of retention, when that has changed.
 */
export function noteRetention(log: AuditLog, told: Told): void {
  const { type, agent, device, sequence, pointId, by, reasons, settings } = told;
  if (type === 'journal-removed') {
    const { journalId, bytes } = told;
    log.note({
      ...{ who: 'retention', what: 'journal-removed', result: 'done', agent, device, bytes },
      detail: `journal ${journalId}`,
    });
  }
  if (type === 'point-removed') {
    log.note({
      ...{ who: by === 'forget' ? 'operator' : 'retention', what: 'point-removed', result: 'done' },
      ...{ agent, device, point: device === undefined ? pointId : `${device}@${sequence}` },
      detail: reasons?.join('; '),
    });
  }
  if (type === 'retention-set' && typeof settings?.managedBy === 'string') {
    const detail = `retention: of ${settings.managedBy}`;
    log.note({ who: 'operator', what: 'setting', result: 'done', detail });
  }
}
