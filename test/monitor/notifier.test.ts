/** Notices over restarts, damage to what is remembered of them, and too many at once. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { pino } from 'pino';
import type { Condition } from '../../src/domain/notice/events.js';
import { MESSAGES_MAX, Notifier } from '../../src/monitor/notify/notifier.js';
import { tempDir } from '../helpers/disks/temp-dir.js';

const HOUR = 3_600_000;
const DAMAGE: Condition = { event: 'damage', subject: 'web1/data@3', text: 'it is damaged' };

class World {
  readonly path: string;
  nowMs = Date.UTC(2026, 0, 1);
  readonly sent: string[] = [];
  isDeaf = false;
  readonly #notifier: Notifier;

  private constructor(path: string, notifier: (world: World) => Notifier) {
    this.path = path;
    this.#notifier = notifier(this);
  }

  /** A process: it knows what is in the file. */
  static async start(path: string, nowMs?: number): Promise<World> {
    let made: World | null = null;
    const notifier = await Notifier.open({
      ...{ role: 'receiver', path, host: 'here', log: pino({ level: 'silent' }) },
      nowMs: () => made?.nowMs ?? 0,
    });
    made = new World(path, () => notifier);
    if (nowMs !== undefined) made.nowMs = nowMs;
    return made;
  }

  async tick(...conditions: Condition[]): Promise<string[]> {
    this.sent.length = 0;
    await this.#notifier.tick(conditions, {
      ...{ events: null, repeatAfterMs: 24 * HOUR },
      channels: new Map([
        [
          'mail',
          async ({ state, event, notices }) => {
            if (this.isDeaf) throw new Error('no');
            this.sent.push(`${state} ${event} ${notices.length}`);
          },
        ],
      ]),
    });
    return [...this.sent];
  }
}

test('a start tells nothing again, and what was not taken before it', async (t) => {
  const path = join(await tempDir(t), 'notices.json');
  const first = await World.start(path);
  t.deepEqual(await first.tick(DAMAGE), ['begun damage 1']);
  const second = await World.start(path, first.nowMs + HOUR);
  t.deepEqual(await second.tick(DAMAGE), []);
  second.isDeaf = true;
  t.deepEqual(await second.tick(), []);
  const third = await World.start(path, second.nowMs + HOUR);
  t.deepEqual(await third.tick(), ['over damage 1']);
  t.deepEqual(await (await World.start(path, third.nowMs)).tick(), []);
});

test('if what was told is damaged, it is told again', async (t) => {
  const path = join(await tempDir(t), 'notices.json');
  t.deepEqual(await (await World.start(path)).tick(DAMAGE), ['begun damage 1']);
  await writeFile(path, (await readFile(path, 'utf8')).replace('checksum', 'checksun'));
  t.deepEqual(await (await World.start(path)).tick(DAMAGE), ['begun damage 1']);
});

test('more than so many in an hour wait, and are not lost', async (t) => {
  const world = await World.start(join(await tempDir(t), 'notices.json'));
  const told: string[] = [];
  for (let i = 0; i < 2 * MESSAGES_MAX; i += 1)
    told.push(...(await world.tick(...(i % 2 === 0 ? [DAMAGE] : []))));
  t.is(told.length, MESSAGES_MAX);
  t.deepEqual(await world.tick(DAMAGE), []);
  world.nowMs += HOUR;
  t.deepEqual(await world.tick(DAMAGE), ['begun damage 1']);
});
