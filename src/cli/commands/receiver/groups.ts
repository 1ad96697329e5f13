/** `stillpoint receiver group set | list | show | remove | backup`: groups over several hosts. */
import { type Command, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { GROUP_MEMBERS_MAX } from '../../../domain/base/limits.js';
import { checkName, LOCAL_AGENT } from '../../../domain/base/names.js';
import { groupPoints } from '../../../domain/point/group.js';
import { deviceName, parseDeviceRef } from '../../../domain/point/point-ref.js';
import type { GroupChange, GroupHostView } from '../../../receiver/control/messages.js';
import type { GroupDevice, ReceiverGroup } from '../../../receiver/orders/group-settings.js';
import type { CommandContext, Run } from '../../common/context.js';
import { recorded } from '../../common/recorded.js';
import { EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatTable } from '../../output/format.js';
import { groupTable } from '../../output/group-points.js';
import type { Output } from '../../output/output.js';

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
    .description('show all groups')
    .addOption(store())
    .action((options: Choice) =>
      run(async (context) => list(context, await directoryOf(context, options.store))),
    );
  group
    .command('show')
    .description('show the members of a group')
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
}

/** @throws StillpointError `usage`, `bad-name` */
export function membersOf(name: string, texts: readonly string[]): GroupDevice[] {
  const refuse = (reason: string, remedy: string) =>
    new StillpointError('usage', { thing: `group ${name}`, reason, remedy });
  const members = texts.map((text): GroupDevice => {
    const { agent, device } = parseDeviceRef(text);
    if (agent === undefined)
      throw refuse(`${device} does not say of which agent it is`, `Write AGENT/${device}.`);
    if (device === name)
      throw refuse(`${text} has the name of the group`, 'Choose another name for the group.');
    return { agent, device };
  });
  const names = members.map((member) => deviceName(member, ''));
  const twice = names.find((each, at) => names.indexOf(each) !== at);
  if (twice !== undefined) throw refuse(`${twice} is named twice`, 'Omit one of them.');
  if (members.length > GROUP_MEMBERS_MAX)
    throw refuse(`it has ${members.length} members, and ${GROUP_MEMBERS_MAX} is the limit`, 'Name fewer.');
  return members;
}

async function set(
  { output }: CommandContext,
  dir: string,
  text: string,
  texts: readonly string[],
  { missing }: SetChoice,
): Promise<number> {
  const name = checkName('group name', text);
  const members = membersOf(name, texts);
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { writeGroup } = await import('../../../receiver/orders/group-settings.js');
  await readSettings(dir);
  const group: ReceiverGroup = { name, members, missing };
  const detail = `group ${name}: ${namesOf(group)}`;
  await recorded(dir, { what: 'setting', detail }, () => writeGroup(dir, group));
  output.result({ group }, [`Group ${name}: ${namesOf(group)}`, `  ${policyText(group)}`]);
  return EXIT_OK;
}

async function list({ output }: CommandContext, dir: string): Promise<number> {
  const { readGroups } = await import('../../../receiver/orders/group-settings.js');
  const groups = await readGroups(dir);
  const columns = ['GROUP', 'IF MISSING', 'MEMBERS'].map((title) => ({ title }));
  const rows = groups.map((group) => [group.name, group.missing, namesOf(group)]);
  output.result({ groups }, rows.length === 0 ? ['There are no groups.'] : formatTable(columns, rows), true);
  return EXIT_OK;
}

async function show({ output }: CommandContext, dir: string, name: string): Promise<number> {
  const { readGroup } = await import('../../../receiver/orders/group-settings.js');
  const group = await readGroup(dir, name);
  const lines = [
    `Group ${name}: ${policyText(group)}`,
    ...group.members.map((member) => `  ${deviceName(member, '')}`),
  ];
  output.result({ group }, lines, true);
  return EXIT_OK;
}

async function remove({ output }: CommandContext, dir: string, name: string): Promise<number> {
  const { readGroup, removeGroup } = await import('../../../receiver/orders/group-settings.js');
  await readGroup(dir, name);
  const detail = `group ${name} is removed`;
  await recorded(dir, { what: 'setting', detail }, () => removeGroup(dir, name));
  output.result({ removed: name }, [`Group ${name} is removed; its points stay`]);
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

function namesOf({ members }: ReceiverGroup): string {
  return members.map((member) => deviceName(member, '')).join(', ');
}

function policyText({ missing }: ReceiverGroup): string {
  return missing === 'fail'
    ? 'if an agent can not take part, there is no group point'
    : 'an agent that can not take part is left out';
}
