/**
 * What a round backs up: devices of agents, each alone, and groups of the receiver. Pure.
 *
 * | agents | groups | alone                                                      | groups    |
 * |--------|--------|------------------------------------------------------------|-----------|
 * | all    | all    | what agents offer, except for members of groups            | all       |
 * | chosen | -      | what these agents offer                                    | none      |
 * | -      | chosen | nothing                                                    | the chosen |
 * | chosen | chosen | what these agents offer, except for members of the chosen  | the chosen |
 *
 * A member of a group that the round backs up is never backed up alone in that round, nor when the round goes
 * back to what failed: not even if the group has no point, or one without it.
 */
import { agentsOf, memberName, type ReceiverGroup } from './receiver-group.js';

/** Null, both: everything. Null, one of them: nothing of that kind. */
export interface RoundChoice {
  readonly agents: readonly string[] | null;
  readonly groups: readonly string[] | null;
}

/** What a round goes back to. */
export interface RoundLeft {
  /** Devices that failed; null: an agent that was not reached, all that it may offer. */
  readonly agents: ReadonlyMap<string, ReadonlySet<string> | null>;
  readonly groups: ReadonlySet<string>;
}

export interface RoundPlan {
  /** Whose devices are backed up alone; null: all that it offers. */
  readonly agents: RoundLeft['agents'];
  readonly groups: readonly ReceiverGroup[];
  /** Groups that were chosen, and are not there. */
  readonly unknown: readonly string[];
  /** `AGENT/DEVICE` of what is not backed up alone. */
  readonly members: ReadonlySet<string>;
}

export interface KnownToReceiver {
  /** All that are enrolled. */
  readonly agents: readonly string[];
  readonly groups: readonly ReceiverGroup[];
}

/** @param left at a retry: only that; null: all that was chosen */
export function planRound(
  { agents, groups }: RoundChoice,
  known: KnownToReceiver,
  left: RoundLeft | null = null,
): RoundPlan {
  const isAll = agents === null && groups === null;
  const names = groups ?? (isAll ? known.groups.map(({ name }) => name) : []);
  const chosen = known.groups.filter(({ name }) => names.includes(name));
  const alone = agents ?? (isAll ? known.agents : []);
  const isLeft = (name: string) => left === null || left.groups.has(name);
  return {
    agents: left?.agents ?? new Map(alone.map((agent) => [agent, null])),
    groups: chosen.filter(({ name }) => isLeft(name)),
    unknown: names.filter((name) => isLeft(name) && !chosen.some((group) => group.name === name)),
    members: new Set(chosen.flatMap(({ members }) => members.map(memberName))),
  };
}

/** All that it needs, for devices of their own or for its groups. */
export function agentsOfPlan({ agents, groups }: Pick<RoundPlan, 'agents' | 'groups'>): string[] {
  return [...new Set([...agents.keys(), ...groups.flatMap(agentsOf)])].sort();
}

/** Whether rounds back up anything of an enrolled agent. */
export function reaches(choice: RoundChoice, groups: readonly ReceiverGroup[], agent: string): boolean {
  return agentsOfPlan(planRound(choice, { agents: [agent], groups })).includes(agent);
}
