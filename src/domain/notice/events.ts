/**
 * What notifications tell of: conditions that begin, last and end. docs/monitoring.md shows the table. Names
 * are for programs, so they never change their meaning. Pure.
 */

interface EventRow {
  readonly of: readonly ('agent' | 'receiver')[];
  readonly severity: 'warning' | 'critical';
  /** One sentence for users. */
  readonly meaning: string;
  /** What to do. */
  readonly remedy: string;
}

export const NOTICE_EVENTS = {
  'backup-failed': {
    of: ['agent'],
    severity: 'warning',
    meaning: 'A backup failed, and so did all that it was tried again.',
    remedy: 'See "stillpoint status" on that machine. It is tried again at the next time of its schedule.',
  },
  'device-stale': {
    of: ['agent', 'receiver'],
    severity: 'critical',
    meaning: 'The last point of a device or group is too old, whatever the cause.',
    remedy: 'See "stillpoint status" on that machine, and "stillpoint receiver agents" on the receiver.',
  },
  'receiver-unreachable': {
    of: ['agent'],
    severity: 'warning',
    meaning: 'A receiver has not answered for a quarter of an hour.',
    remedy: 'See whether the receiver runs, and whether this machine reaches it.',
  },
  'journal-broken': {
    of: ['agent'],
    severity: 'warning',
    meaning: 'The journal of a tap has been broken for an hour: no second since then can be restored.',
    remedy:
      'Back the device up: that begins a new one. See "stillpoint status" on that machine for what broke it.',
  },
  'journal-behind': {
    of: ['agent'],
    severity: 'warning',
    meaning: 'Writes in the journal of a tap have waited for a quarter of an hour to be shipped.',
    remedy:
      'See "stillpoint status" on that machine. If its link is too slow for all that is written, the journal breaks.',
  },
  'agent-silent': {
    of: ['receiver'],
    severity: 'critical',
    meaning: 'Nothing was heard of an agent for too long.',
    remedy:
      'See whether the machine is up and "stillpoint agent run" runs there. If it is gone for good: stillpoint receiver agent remove NAME.',
  },
  damage: {
    of: ['receiver'],
    severity: 'critical',
    meaning: 'A point needs something in the store that is damaged.',
    remedy:
      'Have the device backed up: what it still holds heals the point. See "stillpoint verify --status", and look at the disk.',
  },
  'journal-fault': {
    of: ['receiver'],
    severity: 'critical',
    meaning:
      'A journal does not give the point that came after it, so seconds between the two can not be restored.',
    remedy:
      'The device has begun a new journal. See whether something writes to the device past its tap; docs/journal.md.',
  },
  'space-low': {
    of: ['receiver'],
    severity: 'critical',
    meaning: "Too little is free on the store's disk.",
    remedy:
      'See "stillpoint usage --store DIR --exact". Keep less ("stillpoint retention"), or give the disk more room.',
  },
  'space-soon-low': {
    of: ['receiver'],
    severity: 'warning',
    meaning: 'As the store grows, its disk is full soon.',
    remedy:
      'See "stillpoint usage --store DIR". Keep less ("stillpoint retention"), or give the disk more room.',
  },
  'round-failed': {
    of: ['receiver'],
    severity: 'warning',
    meaning: 'The last round of a schedule failed for some devices or groups, or did not reach some agents.',
    remedy: 'See "stillpoint receiver schedule show" for which, and why.',
  },
  'upkeep-failed': {
    of: ['receiver'],
    severity: 'warning',
    meaning: 'The receiver can not remove points, read its store back, or write its audit log.',
    remedy: "See the receiver's log.",
  },
} as const satisfies Readonly<Record<string, EventRow>>;

export type NoticeEvent = keyof typeof NOTICE_EVENTS;
const NOTICE_EVENT_NAMES = Object.keys(NOTICE_EVENTS) as NoticeEvent[];

/** Those that an agent, or a receiver, may tell of. */
export function eventsOf(role: 'agent' | 'receiver'): NoticeEvent[] {
  return NOTICE_EVENT_NAMES.filter((name) => (NOTICE_EVENTS[name].of as readonly string[]).includes(role));
}

/** Something that is not well at this moment. */
export interface Condition {
  readonly event: NoticeEvent;
  /** What it is about, `web1/data`; with the event it tells one condition from another. */
  readonly subject: string;
  /** A clause. */
  readonly text: string;
  /** Only after it has lasted so long it is told. */
  readonly afterMs?: number;
  /** It is not known yet whether it is over: what has begun lasts, and nothing begins. */
  readonly isOpen?: boolean;
}
