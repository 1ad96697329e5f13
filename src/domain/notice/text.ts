/** Notifications as people and programs read them. Pure. */
import type { Message, NoticeState } from './book.js';
import { describeTime } from './describe.js';
import { NOTICE_EVENTS, type NoticeEvent } from './events.js';

export interface Notification {
  readonly version: 1;
  readonly event: NoticeEvent;
  readonly state: NoticeState;
  readonly severity: 'warning' | 'critical';
  readonly role: 'agent' | 'receiver';
  readonly host: string;
  /** ISO 8601, as all times here. */
  readonly at: string;
  /** One line. */
  readonly title: string;
  /** Several lines. */
  readonly text: string;
  readonly notices: readonly { readonly subject: string; readonly since: string; readonly text: string }[];
}

const WORDS: Readonly<Record<NoticeState, string>> = { begun: '', lasting: 'still ', over: 'over: ' };
const SUBJECTS_NAMED = 3;

export function notificationOf(
  { event, state, entries }: Pick<Message, 'event' | 'state' | 'entries'>,
  {
    role,
    host,
    nowMs,
  }: { readonly role: 'agent' | 'receiver'; readonly host: string; readonly nowMs: number },
): Notification {
  const { severity, meaning, remedy } = NOTICE_EVENTS[event];
  const subjects = entries.map(({ subject }) => subject);
  const more = subjects.length - SUBJECTS_NAMED;
  const named = `${subjects.slice(0, SUBJECTS_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  const lines = entries.map(({ subject, text, sinceMs }) =>
    state === 'over'
      ? `${subject}: well again. It was not since ${describeTime(sinceMs)}: ${text}.`
      : `${subject}: ${text}. Known since ${describeTime(sinceMs)}.`,
  );
  return {
    ...{ version: 1, event, state, severity, role, host, at: new Date(nowMs).toISOString() },
    title: printable(`stillpoint on ${host}: ${WORDS[state]}${event}: ${named}`).slice(0, 200),
    text: [...(state === 'over' ? [] : [meaning]), ...lines, ...(state === 'over' ? [] : [remedy])]
      .map(printable)
      .join('\n'),
    notices: entries.map(({ subject, text, sinceMs }) => ({
      ...{ subject, text, since: new Date(sinceMs).toISOString() },
    })),
  };
}

/** On one line, whatever names and errors have in them. */
function printable(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

/** A message for `sendmail -t`. Addresses were checked when they were configured. */
export function mailOf(
  { title, text, event, state, at }: Notification,
  { to, from }: { readonly to: readonly string[]; readonly from: string | null },
): string {
  const headers = [
    ...(from === null ? [] : [`From: ${from}`]),
    `To: ${to.join(', ')}`,
    `Subject: ${headerText(title)}`,
    `Date: ${new Date(at).toUTCString().replace('GMT', '+0000')}`,
    'Auto-Submitted: auto-generated',
    `X-Stillpoint-Event: ${event}; ${state}`,
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: 8bit',
  ];
  return `${headers.join('\n')}\n\n${text}\n`;
}

/** RFC 2047, where it is not ASCII: in words of at most 75 characters that hold whole characters. */
function headerText(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text;
  const words = text.match(/.{1,10}/gsu) ?? [];
  return words.map((word) => `=?utf-8?B?${Buffer.from(word).toString('base64')}?=`).join('\n ');
}
