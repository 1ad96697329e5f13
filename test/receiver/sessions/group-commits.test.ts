/** What becomes of commits of a group that are not all there. */
import test from 'ava';
import { RUN_LIMITS, type RunSettings } from '../../../src/domain/group/run.js';
import type { GroupReport } from '../../../src/domain/group/steps.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import { GroupRuns } from '../../../src/receiver/groups/runs.js';
import { GroupCommits, type GroupCommitsOptions } from '../../../src/receiver/sessions/group-commits.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { commitRequest } from '../../helpers/bytes/requests.js';
import { refused } from '../../helpers/refused.js';

const IDS = ['1'.repeat(32), '2'.repeat(32), '3'.repeat(32)] as const;
const GROUP = { id: 'a'.repeat(32), name: 'db', sessionIds: [...IDS] };

const session = (sessionId: string) => ({
  capture: { description: { agent: 'host', sessionId } } as unknown as Capture,
});
const request = (changes: Partial<CommitRequest> = {}) =>
  commitRequest({ batchCount: 1, group: GROUP, ...changes });

function gathering(options: Partial<GroupCommitsOptions> = {}) {
  const decided: string[][] = [];
  const commitTogether: Store['commitTogether'] = async (commits) => {
    decided.push(commits.map(({ capture }) => capture.description.sessionId));
    return commits.map(() => ({ status: 'rejected', reason: new Error('nothing is made here') }));
  };
  const runs = new GroupRuns({ isOpen: () => true });
  const groups = new GroupCommits({ store: { commitTogether }, isOpen: () => true, runs, ...options });
  return { groups, decided, runs };
}

test('commits that do not come in time take the others with them, and may begin again', async (t) => {
  const { groups, decided } = gathering({ gatheringMs: 30 });
  const [one, two, three] = IDS.map(session) as [never, never, never];
  const first = groups.join(one, request(), GROUP);
  const second = groups.join(two, request(), GROUP);
  await refused(t, first, 'group-failed', /did not come in time/);
  await refused(t, second, 'group-failed', /did not come in time/);
  t.deepEqual(decided, []);
  const again = [one, two, three].map((each) => groups.join(each, request(), GROUP));
  for (const each of again) await t.throwsAsync(each, { message: 'nothing is made here' });
  t.deepEqual(decided, [[...IDS]]);
});

test('a commit that waits is answered after a while, and stays a part of the group', async (t) => {
  const { groups, decided } = gathering({ answerMs: 20 });
  const [one, two, three] = IDS.map(session) as [never, never, never];
  const results = [one, two].map((each) => groups.join(each, request(), GROUP));
  await refused(t, groups.answer(one, GROUP, results[0] as never), 'busy', /all 3 sessions of group db/);
  const last = groups.join(three, request(), GROUP);
  await t.throwsAsync(groups.answer(three, GROUP, last), { message: 'nothing is made here' });
  for (const result of results) await t.throwsAsync(result, { message: 'nothing is made here' });
  t.deepEqual(decided, [[...IDS]]);
});

test('an answer waits for what is being decided, however long', async (t) => {
  let decide: () => void = () => undefined;
  const commitTogether: Store['commitTogether'] = async (commits) => {
    await new Promise<void>((resolve) => {
      decide = resolve;
    });
    return commits.map(() => ({ status: 'rejected', reason: new Error('decided') }));
  };
  const { groups } = gathering({ answerMs: 10, store: { commitTogether } });
  const results = IDS.map((id) => groups.join(session(id), request(), GROUP));
  const answer = groups.answer(session(IDS[0]), GROUP, results[0] as never);
  setTimeout(() => decide(), 60);
  await t.throwsAsync(answer, { message: 'decided' });
  await Promise.allSettled(results);
});

test('a receiver that stops tells those who wait that it may be tried again', async (t) => {
  const { groups } = gathering();
  const waiting = groups.join(session(IDS[0]), request(), GROUP);
  groups.close();
  const error = await refused(t, waiting, 'group-failed', /stops/);
  t.is((error as { permanent?: boolean } | undefined)?.permanent ?? false, false);
});

test('a session of another group, or of another agent, has no effect when it ends', async (t) => {
  const { groups } = gathering({ gatheringMs: 100 });
  const waiting = groups.join(session(IDS[0]), request(), GROUP);
  groups.ended('host', '9'.repeat(32));
  groups.ended('other', IDS[1]);
  await refused(t, waiting, 'group-failed', /in time/);
});

/** Two hosts of a run that has come to their commits. @returns the request and the group of the first */
function committing({ runs }: ReturnType<typeof gathering>, missing: RunSettings['missing']) {
  const hosts = IDS.slice(0, 2).map((sessionId, at) => ({
    agent: `host${at}`,
    devices: ['disk'],
    sessionId,
  }));
  let run = runs.start({ id: GROUP.id, name: 'db', hosts, missing, limits: RUN_LIMITS }, (changed) => {
    run = changed;
  });
  const steps: GroupReport[] = [
    { state: 'ready', try: 1 },
    { state: 'rested', try: 1 },
    { state: 'closed', try: 1 },
    { state: 'cut', try: 1, stalls: [] },
  ];
  for (const report of steps)
    for (const { agent } of hosts) void runs.step(agent, { runId: GROUP.id, report, waitMs: 0 });
  for (const { agent, sessionId } of hosts) {
    const report = { state: 'transferred', kind: 'crash', sessionIds: [sessionId] } as const;
    void runs.step(agent, { runId: GROUP.id, report, waitMs: 0 });
  }
  const group = { id: GROUP.id, name: 'db', sessionIds: IDS.slice(0, 2), isOfReceiver: true } as const;
  return { group, request: request({ group, instant: run.instant ?? '', kind: 'crash' }), run: () => run };
}

const GONE = {
  code: 'connection-lost',
  thing: 'agent host1',
  reason: 'it is gone',
  permanent: false,
} as const;

/** What ends a run while the commit of one host waits for that of the other. */
const ENDS: readonly [how: string, end: (runs: GroupRuns) => unknown][] = [
  ['a host is gone', (runs) => runs.gone(GROUP.id, 'host1', GONE)],
  [
    'a host fails',
    (runs) => runs.step('host1', { runId: GROUP.id, report: { state: 'failed', error: GONE }, waitMs: 0 }),
  ],
  ['it is cancelled', (runs) => runs.cancel(GROUP.id, GONE)],
];

for (const [how, end] of ENDS)
  for (const missing of ['fail', 'leave-out'] as const)
    test(`a commit of a run does not wait any more when it is over: ${how}, ${missing}`, async (t) => {
      const world = gathering();
      const { group, request: commit, run } = committing(world, missing);
      t.is(run().phase, 'committing');
      const own = { capture: { description: { agent: 'host0', sessionId: IDS[0] } } } as never;
      const waiting = world.groups.join(own, commit, group);
      await end(world.runs);
      const error = await refused(t, waiting, 'group-failed', /its run has ended/);
      t.notRegex(String(error), /host1|gone/, 'agents are not told of others');
      t.is(run().phase, 'failed');
      await refused(t, world.groups.join(own, commit, group), 'group-failed', /its run is over/);
      t.deepEqual(world.decided, []);
    });
