/**
 * The `event` of lines in logs that users may look for, in one table; docs/monitoring.md shows it. They never
 * change their meaning, while the texts of lines may. Pure.
 */
export const LOG_EVENTS = {
  'backup-begun': 'A backup of a device or group begins.',
  'backup-done': 'A backup made a point.',
  'backup-failed': 'A backup failed; `code` and `reason` say why.',
  'member-left-out': 'A backup of a group was made without a device; `code` and `reason` say why.',
  'device-missing':
    'A device is not there; its backup waits for it, or that of its group is made without it.',
  'device-back': 'The device is there again.',
  'receiver-connected': 'The receiver answers.',
  'receiver-unreachable': 'The receiver does not answer; it is asked again.',
  'journal-shipping': 'A journal of a tap is shipped to its receiver from now on.',
  'journal-broken': 'A journal of a tap is broken; `reason` says why. The next point begins a new one.',
  'journal-not-shipped': 'A journal can not be shipped; `code` and `reason` say why.',
  'journal-shipped-again': 'A journal is shipped again after a failure.',
  'config-applied': 'A changed configuration is in use.',
  'config-refused': 'A changed configuration is wrong; the old one stays.',
  'receiver-serving': 'The receiver serves agents.',
  'receiver-closed': 'The receiver has ended in order.',
  'agent-enrolled': 'An agent got its certificate.',
  'request-refused': 'A message was refused; `code` and `reason` say why.',
  'request-failed': 'A message failed at the receiver.',
  'tls-refused': 'A connection was refused before any message.',
  'damage-found': 'A scrub found damage.',
  'damage-known': 'Points need something that is damaged.',
  'scrub-failed': 'A scrub could not read the store back.',
  'point-removed': 'A point was removed, by rules or by hand.',
  'prune-done': 'The rules of retention were applied.',
  'prune-failed': 'The rules of retention could not be applied.',
  'clock-doubted': 'The clock is not believed; nothing is removed by its time.',
  'round-begun': 'A round begins.',
  'round-item-failed': 'A round failed to back up a device or a group, or did not reach an agent.',
  'round-ended': 'A round has ended.',
  'group-begun': 'A backup of a group over several hosts begins.',
  'group-host-out':
    'A host is out of the backup of a group, with its `members`; `code` and `reason` say why.',
  'group-try-missed': 'A host missed a try of the common instant; `code` and `reason` say why.',
  'group-instant':
    'The hosts have their common instant; `stalls` says how long writes of each member waited.',
  'group-done': 'A backup of a group over several hosts made a group point.',
  'group-failed':
    'A backup of a group over several hosts failed; `code` and `reason` say why, `agent` which host was at fault.',
  'journal-fault':
    'An audit found that a journal does not give the next point; it has ended. `reason` says what differs.',
  'journal-audit-failed': 'A journal could not be audited; it is tried again later.',
  'audit-failed': 'The audit log can not be written; commands are refused.',
  'notification-sent': 'A notification was taken by its channel.',
  'notification-failed': 'A notification was not taken; it is tried again.',
} as const;

export type LogEvent = keyof typeof LOG_EVENTS;
