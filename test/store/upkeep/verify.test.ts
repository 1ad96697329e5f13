/** Points that are removed while they are verified: what they needed is no damage. */
import test from 'ava';
import type { VerifyEvent } from '../../../src/domain/session/messages.js';
import { RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { flipRecords } from '../../helpers/faults/pack-damage.js';
import { CollectWorld, digestOf, range, state } from '../../helpers/worlds/collect.js';
import { backUp } from '../../helpers/worlds/store-device.js';

for (const scope of [{}, { agent: 'alpha' }]) {
  const what = 'agent' in scope ? "an agent's points" : 'a store';
  test(`a verification of ${what} tells nothing of points that are gone by its end`, async (t) => {
    const world = await CollectWorld.make(t);
    await backUp(world.store, 'disk', null, state(range(0, 20), 100));
    await backUp(world.store, 'other', null, state(range(0, 20), 5000));
    const last = await backUp(world.store, 'third', null, state(range(0, 20), 9000));
    await flipRecords(world.dir, RECORD_KIND_BLOCK, digestOf(3, 9000));
    const events: VerifyEvent[] = [];
    for await (const event of world.store.verify(scope)) {
      // Some findings come after the next step.
      if (events.push(event) === 1) {
        await world.store.removeDevice({ agent: 'alpha', device: 'other' }, 'a test');
        await world.store.collect({ force: true });
      }
      if (event.type !== 'progress' || event.doneBytes < event.totalBytes) continue;
      if ((await world.store.points({})).length === 2 && 'agent' in scope)
        await world.store.removeDevice(last, 'a test');
    }
    const findings = events.flatMap((event) => (event.type === 'finding' ? [event.points] : []));
    // A damaged pack is damage, whichever points are there.
    t.deepEqual(findings, 'agent' in scope ? [] : [['alpha/third@1']]);
    const [summary] = events.slice(-1);
    t.like(summary, { pointCount: 'agent' in scope ? 1 : 2, findingCount: findings.length });
  });
}
