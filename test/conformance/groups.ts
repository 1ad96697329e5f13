/** Commits that become points together, on each ReceiverPort. */
import type { StillpointError } from '../../src/domain/base/errors.js';
import { groupPoints } from '../../src/domain/point/group.js';
import type { Point } from '../../src/domain/point/point.js';
import type { CommitRequest } from '../../src/domain/session/messages.js';
import type { ReceiverPort } from '../../src/protocol/port/receiver.js';
import { batchOf, rootOf } from '../helpers/bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY } from '../helpers/bytes/requests.js';
import type { Tests } from '../helpers/in-turns.js';
import { refused } from '../helpers/refused.js';
import { blocksOf, type MakeWorld, newSessionId } from './receiver.js';

interface Sent {
  readonly sessionId: string;
  readonly request: CommitRequest;
}

/** Everything but the commits, of sessions of a group. */
async function send(port: ReceiverPort, devices: readonly string[], generation = 1): Promise<Sent[]> {
  const sessionIds = devices.map(() => newSessionId());
  const group = { id: newSessionId(), name: 'db', sessionIds };
  const sent: Sent[] = [];
  for (const [at, device] of devices.entries()) {
    const sessionId = sessionIds[at] as string;
    const state = blocksOf([0, at + 1], generation, at);
    await port.begin(beginRequest({ device, sessionId }));
    await port.batch(sessionId, 1, batchOf(sessionId, 1, state));
    const root = rootOf(GEOMETRY, state);
    sent.push({ sessionId, request: commitRequest({ batchCount: 1, root, group }) });
  }
  return sent;
}

/** As an agent does: a commit that is told to wait is sent again. */
async function commit(port: ReceiverPort, { sessionId, request }: Sent): Promise<Point> {
  for (;;) {
    try {
      return await port.commit(sessionId, request);
    } catch (error) {
      if ((error as StillpointError).code !== 'busy') throw error;
    }
  }
}

export function groupsConformance(test: Tests, make: MakeWorld): void {
  test('sessions of a group become points when the last commit has come, and not before', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sent = await send(port, ['data', 'wal', 'root']);
    const commits = sent.slice(0, 2).map((each) => commit(port, each));
    await new Promise((resolve) => setTimeout(resolve, 300));
    t.deepEqual(await port.points(), []);
    const points = await Promise.all([...commits, commit(port, sent[2] as Sent)]);
    const { group } = points[0] as Point;
    t.like(group, { name: 'db', sequence: 1, memberCount: 3 });
    for (const point of points) t.deepEqual(point.group, group);
    const [found] = groupPoints(await port.points());
    t.deepEqual(
      found?.points.map(({ id }) => id),
      [...points].sort((a, b) => (a.device < b.device ? -1 : 1)).map(({ id }) => id),
    );
    t.deepEqual(await commit(port, sent[0] as Sent), points[0], 'sent again, it is the point');
  });

  test('a commit over the only connection is told that others are waited for', async (t) => {
    const port = await (await make(t)).portFor('host');
    const [first, second] = (await send(port, ['data', 'wal'])) as [Sent, Sent];
    await refused(t, port.commit(first.sessionId, first.request), 'busy', /waited for/);
    t.is((await port.status(first.sessionId)).state, 'open');
    const point = await port.commit(second.sessionId, second.request);
    t.like(await port.status(first.sessionId), { state: 'committed' });
    t.is((await port.commit(first.sessionId, first.request)).group?.id, point.group?.id);
  });

  test('a session that ends takes the others’ commits with it, and they go on', async (t) => {
    const port = await (await make(t)).portFor('host');
    const [first, second] = (await send(port, ['data', 'wal'])) as [Sent, Sent];
    const failing = refused(t, commit(port, first), 'group-failed', /ended/);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await port.abort(second.sessionId);
    await failing;
    await refused(t, port.commit(first.sessionId, first.request), 'group-failed', /not open/);
    t.is((await port.status(first.sessionId)).state, 'open');
    const { group: _, ...alone } = first.request;
    const point = await port.commit(first.sessionId, alone);
    t.is(point.group, undefined);
    t.deepEqual(await port.points(), [point]);
  });

  test('commits that do not name the same group point are refused', async (t) => {
    const port = await (await make(t)).portFor('host');
    const [first, second] = (await send(port, ['data', 'wal'])) as [Sent, Sent];
    const { group } = first.request as CommitRequest & { group: object };
    const change = (changes: object) => ({ ...second.request, ...changes }) as CommitRequest;
    const twice = { ...group, sessionIds: [second.sessionId, second.sessionId] };
    const others = { ...group, sessionIds: [first.sessionId, newSessionId()] };
    const absent = { ...group, sessionIds: [second.sessionId, newSessionId()] };
    const of = (changes: object) => port.commit(second.sessionId, change(changes));
    await refused(t, of({ group: twice }), 'bad-message', /twice/);
    await refused(t, of({ group: others }), 'bad-message', /does not name it/);
    await refused(t, of({ group: absent }), 'group-failed', /not open/);
    await refused(t, of({ group: { ...group, name: 'a/b' } }), 'bad-name');
    const waiting = commit(port, first);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const later = '2026-03-01T00:00:00.000Z';
    for (const changes of [
      { instant: later },
      { kind: 'fuzzy' },
      { group: { ...group, name: 'app' } },
      { group: { ...group, missing: ['root'] } },
    ])
      await refused(t, of(changes), 'bad-message', /another group point/);
    await commit(port, second);
    t.like(await waiting, { device: 'data', group: { sequence: 1 } });
  });

  test('another agent’s session is none of the group', async (t) => {
    const world = await make(t);
    const [port, other] = [await world.portFor('host'), await world.portFor('other')];
    const [own] = (await send(port, ['data', 'wal'])) as [Sent, Sent];
    const [foreign] = (await send(other, ['data', 'wal'])) as [Sent, Sent];
    const group = { ...own.request.group, sessionIds: [own.sessionId, foreign.sessionId] };
    const request = { ...own.request, group } as CommitRequest;
    await refused(t, port.commit(own.sessionId, request), 'group-failed', /not open/);
    t.deepEqual(await other.points(), []);
  });

  test('a name is a device’s or a group’s, never both', async (t) => {
    const port = await (await make(t)).portFor('host');
    await Promise.all((await send(port, ['data', 'wal'])).map((each) => commit(port, each)));
    const begin = beginRequest({ device: 'db', sessionId: newSessionId() });
    await refused(t, port.begin(begin), 'bad-name', /name of a group/);
    const sent = await send(port, ['app', 'root']);
    const [first] = sent as [Sent];
    const named = { ...first.request, group: { ...first.request.group, name: 'data' } } as CommitRequest;
    await refused(t, port.commit(first.sessionId, named), 'bad-name', /name of a device/);
    t.is((await Promise.all(sent.map((each) => commit(port, each))))[0]?.group?.sequence, 2);
  });

  test('a receiver that is restarted in between has none of the points, and takes the commits again', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const sent = await send(port, ['data', 'wal']);
    // Its connection may wait for ever.
    commit(port, sent[0] as Sent).catch(() => null);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await world.restart();
    const again = await world.portFor('host');
    t.deepEqual(await again.points(), []);
    const points = await Promise.all(sent.map((each) => commit(again, each)));
    t.deepEqual(
      points.map(({ group }) => group?.sequence),
      [1, 1],
    );
  });
}
