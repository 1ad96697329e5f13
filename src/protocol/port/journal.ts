import type { JOURNAL_MESSAGES } from '../messages/journal-messages.js';
import type { PortOf } from '../messages/message.js';

/** Journals at a receiver, for who ships or restores them. Each method is described at its message. */
export interface JournalPort extends PortOf<typeof JOURNAL_MESSAGES> {}
