/**
 * Restores all points of a group point, each to a target of its own. All targets are opened, checked and kept
 * from others before the first byte is written to one of them; then they are written one after the other. A
 * failure stops the rest. What it leaves is one of the states of `TargetState` for each, and the error says
 * which.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { refuseSharedTargets } from '../target/apart.js';
import type { PreparedRestore, RestoreOptions, RestoreResult } from './options.js';
import { prepareRestore } from './restore.js';

export interface MemberRestore {
  /** Of its point, as users know it. */
  readonly name: string;
  readonly options: RestoreOptions;
}

export interface TogetherOptions {
  /** Of the group point, as users know it. */
  readonly group: string;
  readonly members: readonly MemberRestore[];
  /** Before what follows is about this member. */
  readonly onMember: (member: MemberRestore, step: 'check' | 'write') => void;
}

interface Prepared {
  readonly member: MemberRestore;
  readonly restore: PreparedRestore;
}

/**
 * @returns by the place of the member
 * @throws StillpointError as `runRestore`; `usage` for targets that share bytes
 */
export async function restoreTogether(options: TogetherOptions): Promise<RestoreResult[]> {
  const { members, onMember } = options;
  await refuseSharedTargets(members.map((member) => member.options.target));
  const all: Prepared[] = [];
  try {
    for (const member of members) {
      onMember(member, 'check');
      all.push({ member, restore: await prepareRestore(member.options) });
    }
    const results: RestoreResult[] = [];
    for (const { member, restore } of all) {
      onMember(member, 'write');
      results.push(await restore.perform());
      // Its locks are not needed any more, and nobody is kept from the target.
      await restore.close();
    }
    return results;
  } catch (error) {
    throw all.length < members.length ? error : withStates(error, options, all);
  } finally {
    // Also if one can't be closed.
    await Promise.allSettled(all.map(({ restore }) => restore.close()));
  }
}

const WORDS = { untouched: 'untouched', 'half-restored': 'half restored', restored: 'restored' } as const;

function withStates(error: unknown, { group }: TogetherOptions, all: readonly Prepared[]): unknown {
  if (!(error instanceof StillpointError)) return error;
  const { code, thing, reason, remedy, permanent } = error;
  const states = (['restored', 'half-restored', 'untouched'] as const).flatMap((state) => {
    const names = all.filter(({ restore }) => restore.target === state).map(({ member }) => member.name);
    return names.length === 0 ? [] : [`${WORDS[state]}: ${names.join(', ')}`];
  });
  // An image that is whole is not overwritten without being told to.
  const isKept = ({ member, restore }: Prepared) =>
    restore.target === 'restored' && restore.isToFile && member.options.overwrite !== true;
  const again = all.some(isKept) ? 'The same command with --overwrite' : 'The same command';
  return new StillpointError(code, {
    ...{ thing, reason, permanent, cause: error },
    remedy: `${remedy === undefined ? '' : `${remedy} `}Of group point ${group}: ${states.join('; ')}. ${again} continues.`,
  });
}
