/**
 * Snapshots whose instant users are told of. What is told when is in quiesce/announce.ts; here is where it
 * goes: after the provider has prepared, before hooks and any freeze.
 *
 * Of a late snapshot the grace time is used for more passes: the instant comes when those have caught up. One
 * that was not reached may be tried again: nothing is told of that.
 */
import type { LatePasses, Member, Snapshot } from './ports.js';
import { Announcement } from './quiesce/announce.js';
import { freezeBudgetMs, HOOK_DEADLINE_MS, type RestOptions } from './quiesce/rest.js';

interface Steps {
  readonly signal: AbortSignal | undefined;
  /** Leads the instant of a static snapshot. Its member is released if it fails. */
  readonly take: () => Promise<Snapshot>;
  /** Leads the instant of a late one. */
  readonly lead: () => Promise<Snapshot>;
  /** Null: it is not late. */
  readonly late: (lead: () => Promise<Snapshot>) => Snapshot | null;
}

export async function announcedHold(
  path: string,
  member: Member,
  rest: RestOptions,
  { signal, take, lead, late }: Steps,
): Promise<Snapshot> {
  const announcement = announcementOf(path, [member], rest);
  if (announcement === null) return late(lead) ?? take();
  const snapshot = late(async () => withWarnings(announcement, await told(announcement, lead)));
  if (snapshot !== null) return announceLate(announcement, signal, snapshot);
  try {
    await announcement.before(signal).catch(async (error: unknown) => {
      await member.release();
      throw error;
    });
    return withWarnings(announcement, await told(announcement, take));
  } catch (error) {
    await announcement.failed();
    throw error;
  }
}

/** Null: nobody is to be told, or nobody writes to any of them. */
export function announcementOf(
  device: string,
  members: readonly Member[],
  rest: RestOptions,
): Announcement | null {
  const { announce, name, hooks, hookDeadlineMs = HOOK_DEADLINE_MS } = rest;
  if (announce === undefined || members.every(({ barrier }) => barrier === 'unused')) return null;
  const pauseMs = freezeLimitMs(members, rest) + 2 * hookDeadlineMs * hooks.length;
  return new Announcement(announce, { device, name, pauseMs });
}

function freezeLimitMs(members: readonly Member[], rest: RestOptions): number {
  if (rest.freezeDeadlineMs !== undefined) return rest.freezeDeadlineMs;
  // A gate may be closed for as long as a freeze without a live copy.
  return freezeBudgetMs(
    members.map(({ barrier, cutting }) => ({
      cut: cutting,
      cutsItself: barrier === 'cut' || barrier === 'gate',
    })),
  );
}

async function told(announcement: Announcement, take: () => Promise<Snapshot>): Promise<Snapshot> {
  const snapshot = await take();
  await announcement.over();
  return snapshot;
}

export function withWarnings({ warnings }: Pick<Announcement, 'warnings'>, snapshot: Snapshot): Snapshot {
  return warnings.length === 0 ? snapshot : { ...snapshot, warnings: [...snapshot.warnings, ...warnings] };
}

function announceLate(announcement: Announcement, signal: AbortSignal | undefined, late: Snapshot): Snapshot {
  const { passes } = late;
  if (passes === undefined) throw new Error('only a late snapshot has passes');
  const announced: LatePasses = {
    next: () => passes.next(),
    take: async () => {
      if (!announcement.isUntold) return passes.take();
      await announcement.before(signal);
      return null;
    },
  };
  return {
    ...late,
    passes: announced,
    release: async () => {
      await late.release();
      await announcement.failed();
    },
  };
}
