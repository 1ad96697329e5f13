/** `stillpoint receiver group set | list | show | remove | backup | cancel`: groups over several hosts. */
import { type Command, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { checkName, LOCAL_AGENT } from '../../../domain/base/names.js';
import { faultOfMembers, parseMember, type ReceiverGroup } from '../../../domain/order/receiver-group.js';
import { groupPoints } from '../../../domain/point/group.js';
import type { GroupChange, GroupHostView } from '../../../receiver/control/messages.js';
import type { GroupView } from '../../../receiver/groups/views.js';
import type { RoundsSource } from '../../../receiver/orders/rounds-source.js';
import type { CommandContext, Run } from '../../common/context.js';
import { recorded } from '../../common/recorded.js';
import { reload } from '../../common/served.js';
import { EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { groupTable } from '../../output/group-points.js';
import type { Output } from '../../output/output.js';
import { groupLines, groupRows, namesOf, policyText } from './group-lines.js';
import { groupsSeen, groupWarnings } from './group-views.js';

interface Choice {
  readonly store?: string;
}

interface SetChoice extends Choice {
  readonly missing: 'fail' | 'leave-out';
}

interface Options {
  readonly directoryOf: (context: CommandContext, dir: string | undefined) => Promise<string>;
  readonly store: () => Option;
  readonly wait: () => Option;
}

export function addReceiverGroups(receiver: Command, run: Run, { directoryOf, store, wait }: Options): void {
  const group = receiver
    .command('group')
    .description('groups of devices of several agents, backed up at one common instant');
  group
    .command('set')
    .description('make a group, or give it other members')
    .argument('<name>', 'of the group')
    .argument('<members...>', 'AGENT/DEVICE of each member, as the agents offer them')
    .addOption(store())
    .addOption(
      new Option('--missing <what>', 'if an agent can not take part')
        .choices(['fail', 'leave-out'])
        .default('fail'),
    )
    .action((name: string, members: string[], options: SetChoice) =>
      run(async (context) => set(context, await directoryOf(context, options.store), name, members, options)),
    );
  group
    .command('list')
    .description('show all groups, with their last group points')
    .addOption(store())
    .action((options: Choice) =>
      run(async (context) => list(context, await directoryOf(context, options.store))),
    );
  group
    .command('show')
    .description('show a group: its members, what runs of it, how its last backup ended')
    .argument('<name>', 'of the group')
    .addOption(store())
    .action((name: string, options: Choice) =>
      run(async (context) => show(context, await directoryOf(context, options.store), name)),
    );
  group
    .command('remove')
    .description('forget a group; its points stay')
    .argument('<name>', 'of the group')
    .addOption(store())
    .action((name: string, options: Choice) =>
      run(async (context) => remove(context, await directoryOf(context, options.store), name)),
    );
  group
    .command('backup')
    .description('have all agents of a group back up its devices at one instant, and wait for the points')
    .argument('<name>', 'of the group')
    .addOption(store())
    .addOption(wait())
    .action((name: string, options: Choice & { readonly wait: number }) =>
      run(async (context) => backup(context, await directoryOf(context, options.store), name, options.wait)),
    );
  group
    .command('cancel')
    .description('stop the backup of a group that runs, whoever began it')
    .argument('<name>', 'of the group')
    .addOption(store())
    .action((name: string, options: Choice) =>
      run(async (context) => cancel(context, await directoryOf(context, options.store), name)),
    );
}

/** @throws StillpointError if it is not the directory of a receiver */
async function groupsIn(context: CommandContext, dir: string): Promise<RoundsSource> {
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { roundsOf } = await import('../../common/receiver-settings.js');
  await readSettings(dir);
  return roundsOf(context, dir, (told) => context.output.note(told));
}

/** @throws StillpointError `usage`, `bad-name` */
function groupOf(name: string, texts: readonly string[], missing: SetChoice['missing']): ReceiverGroup {
  const group = { name: checkName('group name', name), members: texts.map(parseMember), missing };
  const fault = faultOfMembers(group);
  if (fault !== null) throw new StillpointError('usage', { thing: `group ${name}`, ...fault });
  return group;
}

async function set(
  context: CommandContext,
  dir: string,
  name: string,
  members: readonly string[],
  { missing }: SetChoice,
): Promise<number> {
  const group = groupOf(name, members, missing);
  const source = await groupsIn(context, dir);
  for (const warning of await groupWarnings(context, dir, group))
    context.output.warn(`group ${name}: ${warning}`);
  const detail = `group ${name}: ${namesOf(group)}`;
  await recorded(dir, { what: 'setting', detail }, () => source.setGroup(group));
  await reload(context, dir);
  context.output.result({ group }, [`Group ${name}: ${namesOf(group)}`, `  ${policyText(group)}`]);
  return EXIT_OK;
}

async function list(context: CommandContext, dir: string): Promise<number> {
  const source = await groupsIn(context, dir);
  const { groups, isServed } = await groupsSeen(context, dir, source.groups, null);
  const lines = groups.length === 0 ? ['There are no groups.'] : groupRows(groups, Date.now());
  context.output.result({ groups: groups.map(flat), isServed }, [...lines, ...notServed(isServed)], true);
  return EXIT_OK;
}

async function show(context: CommandContext, dir: string, name: string): Promise<number> {
  const source = await groupsIn(context, dir);
  const { groups, isServed } = await groupsSeen(context, dir, source.groups, checkName('group name', name));
  const lines = groups.flatMap((view) => [
    `Group ${name}: ${policyText(view.group)}`,
    ...groupLines(view, Date.now()),
  ]);
  const [group] = groups.map(flat);
  context.output.result({ group, isServed }, [...lines, ...notServed(isServed)], true);
  return EXIT_OK;
}

/** For programs. */
function flat({ group, ...state }: GroupView): object {
  return { ...group, ...state };
}

function notServed(isServed: boolean): string[] {
  return isServed
    ? []
    : ['The receiver is not running: what goes on, and which agents are there, is not known.'];
}

async function remove(context: CommandContext, dir: string, name: string): Promise<number> {
  const source = await groupsIn(context, dir);
  const detail = `group ${name} is removed`;
  await recorded(dir, { what: 'setting', detail }, () => source.removeGroup(name));
  await reload(context, dir);
  context.output.result({ removed: name }, [`Group ${name} is removed; its points stay`]);
  return EXIT_OK;
}

async function backup(
  { output, signal }: CommandContext,
  dir: string,
  text: string,
  waitS: number,
): Promise<number> {
  const name = checkName('group name', text);
  const { askReceiver } = await import('../../../receiver/control/client.js');
  const { groupEventSchema, groupResultSchema } = await import('../../../receiver/control/messages.js');
  const tell = teller(output, name);
  const answer = await askReceiver(
    dir,
    { op: 'group-backup', name, waitMs: waitS * 1000 },
    { signal, onEvent: (event) => tell(groupEventSchema.parse(event)) },
  );
  const { points, hosts, warnings } = groupResultSchema.parse(answer);
  const out = hosts.filter(({ state }) => state === 'out');
  for (const { agent, devices, reason } of out)
    output.warn(`${devices.map((device) => `${agent}/${device}`).join(', ')} left out: ${reason}`);
  for (const warning of warnings) output.warn(warning);
  output.result({ points, hosts, warnings }, [
    ...groupTable(groupPoints(points), LOCAL_AGENT),
    ...stallLines(hosts),
  ]);
  return out.length + warnings.length === 0 ? EXIT_OK : EXIT_WARNINGS;
}

async function cancel({ output, signal }: CommandContext, dir: string, text: string): Promise<number> {
  const name = checkName('group name', text);
  const { askReceiver } = await import('../../../receiver/control/client.js');
  await askReceiver(dir, { op: 'group-cancel', name }, { signal });
  output.result({ cancelled: name }, [`The backup of group ${name} is cancelled`]);
  return EXIT_OK;
}

/** Each change of a host or of the run, once. */
function teller(output: Output, name: string): (change: GroupChange) => void {
  const words: Partial<Record<GroupHostView['state'], string>> = {
    ...{
      preparing: 'prepares',
      ready: 'is ready',
      rested: 'is at rest',
      cut: 'is cut',
      transferred: 'is sent',
      missed: 'missed',
    },
  };
  const told = new Map<string, string>();
  const once = (key: string, text: string | undefined) => {
    if (text === undefined || told.get(key) === text) return;
    told.set(key, text);
    output.note(text);
  };
  return ({ phase, try: of, hosts }) => {
    for (const { agent, state, reason } of hosts) {
      const word = words[state];
      if (state === 'out') once(agent, `${agent} is out: ${reason}`);
      else if (word !== undefined) once(agent, `${agent} ${word}`);
    }
    if (of > 1 && phase === 'resting') once(name, `group ${name}: try ${of}`);
  };
}

function stallLines(hosts: readonly GroupHostView[]): string[] {
  return hosts.flatMap(({ agent, stalls }) =>
    stalls.map(({ device, stallMs }) => `  ${agent}/${device}: writes waited for ${Math.round(stallMs)} ms`),
  );
}
