import test from 'ava';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import type { HandMadeJournal } from '../../helpers/journals/spool.js';
import {
  eventually,
  LinkedReceiver,
  type ShippingWorld,
  shippingWorld,
} from '../../helpers/journals/world.js';

const allOf = (journal: HandMadeJournal) => Buffer.concat(journal.bytes);

const hasAll = (receiver: LinkedReceiver, journal: HandMadeJournal) =>
  eventually('the receiver has all', async () => (await receiver.bytesOf(journal.id)).equals(allOf(journal)));

const viewOf = (world: ShippingWorld, device = 'data') =>
  world.service.view().find((view) => view.device === device);

test('what is written arrives; what has arrived is released; a broken journal ends, and another begins', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  world.start();
  await eventually('it is seen', () => viewOf(world)?.state === 'none');
  const journal = await world.spool.hold();
  for (let i = 0; i < 5; i += 1) {
    await journal.writeMany(10);
    await hasAll(receiver, journal);
  }
  await eventually('segments are released', () => journal.head.oldestSegment === journal.head.segment);
  t.like(viewOf(world), { state: 'shipped', lagMs: 0, problem: null, tap: 'tap1', receiver: 'receiver' });
  t.true(Date.now() - Date.parse(viewOf(world)?.shippedThrough ?? '') < 60_000, 'up to now');
  journal.break('its spool is full');
  await eventually('the tap has forgotten it', () => !journal.isPublished);
  t.deepEqual(await receiver.bytesOf(journal.id), allOf(journal));
  const { reason, brokenStamp: stamp, lastOrdinal } = journal.head;
  t.like(await receiver.find(journal.id), { device: 'data', end: { reason, stamp, lastOrdinal } });
  const next = await world.spool.hold();
  await next.writeMany(3);
  await hasAll(receiver, next);
  t.deepEqual(world.events(), ['journal-shipping', 'journal-broken', 'journal-shipping']);
  const counted = (name: string) =>
    world.counted.reduce((sum, [each, value]) => sum + (each.includes(name) ? value : 0), 0);
  t.is(counted('shipped_bytes'), allOf(journal).length + allOf(next).length, 'nothing was sent twice');
  t.is(counted('broken'), 1);
  await world.stop();
  t.is(receiver.opened, receiver.closed);
});

test('lost messages, lost answers and restarts leave no gap, and nothing twice', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  const journal = await world.spool.hold();
  await journal.writeMany(20);
  receiver.faults.push('lost', 'unanswered', 'lost', 'unanswered');
  world.start();
  await hasAll(receiver, journal);
  await eventually('it has told so', () => world.events().at(-1) === 'journal-shipped-again');
  t.true(world.events().includes('journal-not-shipped'));
  await world.stop();
  await journal.writeMany(20);
  journal.break('a test');
  world.start();
  receiver.faults.push('unanswered', 'unanswered');
  await eventually('it is over', () => !journal.isPublished);
  t.deepEqual(await receiver.bytesOf(journal.id), allOf(journal));
  t.is(receiver.opened - receiver.closed, 0, 'no connection is left behind');
  t.true(receiver.opened >= 5, 'each failure is followed by a new one, with the certificate of then');
});

test('a receiver that can not be reached: nothing is released, and how far it is behind is seen', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  const journal = await world.spool.hold();
  world.start();
  await hasAll(receiver, journal);
  await eventually('that is seen', () => viewOf(world)?.state === 'shipped');
  const before = Date.now();
  receiver.isDown = true;
  await journal.writeMany(30);
  await eventually('that is seen', () => viewOf(world)?.state === 'behind');
  world.wallMs = () => Date.now() + 3_600_000;
  const view = viewOf(world);
  t.regex(view?.problem ?? '', /a test cut it/);
  t.true((view?.lagMs ?? 0) >= 3_600_000 && (view?.lagMs ?? 0) < 2 * 3_600_000, `${view?.lagMs}`);
  t.true(Date.parse(view?.shippedThrough ?? '') < before + 120_000);
  t.is(journal.head.oldestSegment, 1);
  receiver.isDown = false;
  await hasAll(receiver, journal);
  await eventually('that is seen', () => viewOf(world)?.state === 'shipped');
  t.is(viewOf(world)?.lagMs, 0);
});

test('with two receivers, the tap keeps what one of them lacks', async (t) => {
  const world = await shippingWorld(t);
  const [first, second] = [await LinkedReceiver.open(t), await LinkedReceiver.open(t, 'other')];
  world.devices = [world.device, { ...world.device, name: 'other' }];
  world.targets.set('data', first).set('other', second);
  second.isDown = true;
  const journal = await world.spool.hold();
  await journal.writeMany(30);
  world.start();
  await hasAll(first, journal);
  await journal.writeMany(30);
  await hasAll(first, journal);
  t.deepEqual(world.spool.told, []);
  t.is(journal.head.oldestSegment, 1);
  second.isDown = false;
  await hasAll(second, journal);
  await eventually('it is released', () => journal.head.oldestSegment === journal.head.segment);
  second.isDown = true;
  journal.break('a test');
  await eventually('the first has its end', async () => (await first.find(journal.id))?.end !== null);
  second.isDown = false;
  await eventually('and the second', async () => (await second.find(journal.id))?.end !== null);
  await eventually('then it is forgotten', () => !journal.isPublished);
  t.deepEqual(
    world.spool.told.filter((line) => line.endsWith(` ${journal.head.lastOrdinal}`)).length > 0,
    true,
  );
});

test('a journal that its receiver refuses is broken, and the next one is shipped', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  const journal = await world.spool.hold();
  world.start();
  await hasAll(receiver, journal);
  const fault = { pointId: 'f'.repeat(32), ordinal: 1, fault: 'block 7 is not what it should be' };
  await receiver.store.journals.noteAudit('web1', journal.id, fault);
  await journal.writeMany(5);
  await eventually('it is broken', () => journal.head.state === 'broken');
  t.regex(world.spool.told[0] ?? '', /^break .*ended/);
  await eventually('and forgotten', () => !journal.isPublished);
  const next = await world.spool.hold();
  await next.writeMany(5);
  await hasAll(receiver, next);
  await eventually('that is seen', () => viewOf(world)?.state === 'shipped');
});

test('a journal that was begun elsewhere can not be shipped from its middle: it is broken once', async (t) => {
  const world = await shippingWorld(t);
  const [former, receiver] = [await LinkedReceiver.open(t), await LinkedReceiver.open(t, 'other')];
  world.targets.set('data', former);
  const journal = await world.spool.hold();
  await journal.writeMany(30);
  world.start();
  await eventually('the beginning is released', () => journal.head.oldestSegment > 1);
  // The configuration names another.
  world.targets.set('data', receiver);
  await eventually('it is broken', () => journal.head.state === 'broken');
  t.deepEqual(await receiver.bytesOf(journal.id), Buffer.alloc(0));
  await eventually('and forgotten', () => !journal.isPublished);
  const next = await world.spool.hold();
  await hasAll(receiver, next);
});

test('damage in the spool breaks the journal, and its receiver is told that it ends short', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  const journal = await world.spool.hold(64 * 1024);
  await journal.writeMany(10);
  const bytes = allOf(journal);
  bytes[bytes.length - 7] = (bytes[bytes.length - 7] ?? 0) ^ 1;
  await journal.damage(1, bytes);
  world.start();
  await eventually('it is forgotten', () => !journal.isPublished);
  t.regex(world.spool.told[0] ?? '', /^break its spool is damaged/);
  const kept = await receiver.find(journal.id);
  t.like(kept?.end, { lastOrdinal: 11 });
  t.is(kept?.last, null);
});

test('what a tap that does not run has not said is not called shipped', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  const journal = await world.spool.hold();
  await journal.writeMany(3);
  world.start();
  await hasAll(receiver, journal);
  await eventually('that is seen', () => viewOf(world)?.state === 'shipped');
  const before = Date.now();
  world.spool.runs = false;
  await eventually('that is seen', () => viewOf(world)?.problem === 'its tap does not run');
  world.wallMs = () => Date.now() + 3_600_000;
  t.is(viewOf(world)?.state, 'behind');
  t.true(Date.parse(viewOf(world)?.shippedThrough ?? '') < before + 120_000);
  world.spool.runs = true;
  await eventually('that is seen', () => viewOf(world)?.state === 'shipped');
});

test('what a tap that has ended has left is shipped; what may be released waits for its start', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.targets.set('data', receiver);
  const journal = await world.spool.hold();
  await journal.writeMany(30);
  journal.close();
  world.spool.runs = false;
  world.start();
  await hasAll(receiver, journal);
  t.is(journal.head.oldestSegment, 1);
  world.spool.runs = true;
  journal.reopen();
  await journal.writeMany(30);
  await hasAll(receiver, journal);
  await eventually('it is released', () => journal.head.oldestSegment > 1);
  t.is((await receiver.find(journal.id))?.end, null);
});

test('a device without a receiver, under a second name, disabled or removed', async (t) => {
  const world = await shippingWorld(t);
  const receiver = await LinkedReceiver.open(t);
  world.devices = [
    world.device,
    { ...world.device, name: 'same' },
    deviceNamed(world.directory, 'elsewhere'),
  ];
  world.targets.set('data', 'its store is a directory').set('same', receiver).set('elsewhere', receiver);
  const journal = await world.spool.hold();
  world.start();
  await hasAll(receiver, journal);
  t.like(viewOf(world), { state: 'refused', problem: 'its store is a directory', receiver: null });
  t.like(viewOf(world, 'same'), { receiver: 'receiver' });
  t.is(viewOf(world, 'elsewhere'), undefined, 'its tap is another, or none');
  world.targets.set('data', receiver);
  await eventually('the first name counts', () => viewOf(world, 'same')?.state === 'refused');
  t.regex(viewOf(world, 'same')?.problem ?? '', /as that of data/);
  await eventually('another name breaks it', () => journal.head.state === 'broken');
  world.devices = [];
  await eventually('it is left alone', () => world.service.view().length === 0);
  await eventually('its connections are closed', () => receiver.opened === receiver.closed);
});
