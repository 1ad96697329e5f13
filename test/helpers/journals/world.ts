/** The service that ships journals, over hand-made spools and receivers in memory whose links fail. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { Slots } from '../../../src/agent/common/slots.js';
import { JournalService, type TargetChoice } from '../../../src/agent/journal/service.js';
import type { JournalReceiver } from '../../../src/agent/journal/shipper.js';
import type { DeviceSettings } from '../../../src/config/agent-config.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { native } from '../../../src/native/index.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import type { RegisteredTap } from '../../../src/tap/registry/registry.js';
import { tempDir } from '../disks/temp-dir.js';
import { deviceNamed } from '../fakes/device-settings.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { HandMadeSpool } from './spool.js';

const AGENT = 'web1';
/** Pauses after failures take so much less. */
const SPEED = 50;
const PATIENCE_MS = 60_000;

export class LinkedReceiver {
  readonly id: string;
  readonly store: MemoryStore;
  /** What happens to the next messages: they are lost, or their answers. */
  readonly faults: ('lost' | 'unanswered')[] = [];
  isDown = false;
  opened = 0;
  closed = 0;
  appends = 0;
  atOnce = 0;
  mostAtOnce = 0;
  readonly #service: ReceiverService;

  private constructor(id: string, store: MemoryStore, service: ReceiverService) {
    this.id = id;
    this.store = store;
    this.#service = service;
  }

  static async open(t: ExecutionContext, id = 'receiver'): Promise<LinkedReceiver> {
    const store = new MemoryStore();
    const service = await ReceiverService.open(store);
    t.teardown(() => service.close());
    return new LinkedReceiver(id, store, service);
  }

  connect(): JournalReceiver {
    this.opened += 1;
    const port = agentReceiver(this.#service, AGENT);
    const over = async <T>(work: () => Promise<T>): Promise<T> => {
      const fault = this.isDown ? 'lost' : this.faults.shift();
      if (fault === 'lost') throw lost();
      const answer = await work();
      if (fault === 'unanswered') throw lost();
      return answer;
    };
    return {
      beginJournal: (...args) => over(() => port.beginJournal(...args)),
      appendJournal: async (id, records) => {
        this.appends += 1;
        this.atOnce += 1;
        this.mostAtOnce = Math.max(this.mostAtOnce, this.atOnce);
        // As a link does it: what is sent is another's memory afterwards.
        const sent = Buffer.from(records);
        return over(() => port.appendJournal(id, sent)).finally(() => {
          this.atOnce -= 1;
        });
      },
      endJournal: (...args) => over(() => port.endJournal(...args)),
      close: async () => {
        this.closed += 1;
      },
    };
  }

  async bytesOf(journalId: string): Promise<Buffer> {
    const all = { afterOrdinal: 0, throughStamp: '9'.repeat(19), bytesMax: Number.MAX_SAFE_INTEGER };
    const found = await this.store.journals.find(AGENT, journalId);
    return found === null ? Buffer.alloc(0) : this.store.journals.records(AGENT, journalId, all);
  }

  find(journalId: string) {
    return this.store.journals.find(AGENT, journalId);
  }
}

function lost(): StillpointError {
  return new StillpointError('connection-lost', { thing: 'link', reason: 'a test cut it', permanent: false });
}

export class ShippingWorld {
  readonly directory: string;
  readonly spool: HandMadeSpool;
  readonly device: DeviceSettings;
  devices: DeviceSettings[];
  taps: RegisteredTap[];
  /** Where the journal of a device goes, by its name. */
  readonly targets = new Map<string, LinkedReceiver | string>();
  readonly log: { event?: string; reason?: string; code?: string; device?: string }[] = [];
  readonly counted: [name: string, value: number][] = [];
  wallMs: () => number = Date.now;
  readonly #slots = new Slots(2);
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #service: JournalService | null = null;

  constructor(directory: string) {
    this.directory = directory;
    this.spool = new HandMadeSpool(join(directory, 'spool'));
    this.device = deviceNamed(directory, 'data');
    this.devices = [this.device];
    this.taps = [tapOf(this.spool, this.device.path)];
  }

  get service(): JournalService {
    if (this.#service === null) throw new Error('it does not run');
    return this.#service;
  }

  start(): void {
    this.#stop = new AbortController();
    this.#service = new JournalService({
      ...{ signal: this.#stop.signal, scan: native.scanJournal, lookMs: 50 },
      ...{ readHead: this.spool.readHead, connect: this.spool.connect },
      devices: () => this.devices,
      listTaps: async () => this.taps,
      journalOf: ({ settings }) => (settings.name === this.spool.name ? this.spool : null),
      targetOf: async ({ name }) => this.#targetOf(name),
      now: () => performance.now() * SPEED,
      wallMs: () => this.wallMs(),
      random: () => 0.5,
      counters: { add: (name, _labels, value) => void this.counted.push([name, value]) },
      log: pino({ level: 'info' }, { write: (line: string) => void this.log.push(JSON.parse(line)) }),
    });
    this.#running = this.#service.run();
  }

  #targetOf(name: string): TargetChoice {
    const target = this.targets.get(name) ?? 'there is no receiver';
    if (typeof target === 'string') return { problem: target };
    const { id: receiverId } = target;
    return {
      ...{ device: name, receiver: receiverId, receiverId, key: `${name} ${receiverId}`, slots: this.#slots },
      open: async () => target.connect(),
    };
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  events(): string[] {
    return this.log.flatMap(({ event }) => (event === undefined ? [] : [event]));
  }
}

export async function shippingWorld(t: ExecutionContext): Promise<ShippingWorld> {
  const world = new ShippingWorld(await tempDir(t));
  await mkdir(world.spool.directory);
  await writeFile(world.device.path, '');
  t.teardown(() => world.stop());
  return world;
}

function tapOf(spool: HandMadeSpool, sourcePath: string): RegisteredTap {
  const settings = { name: spool.name, sourcePath };
  return { settings, attachedPath: join(spool.directory, 'attached.json') } as unknown as RegisteredTap;
}

/** Waits for what comes by itself, however slow the machine is. */
export async function eventually(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const startMs = performance.now(); performance.now() - startMs < PATIENCE_MS; await sleep(20))
    if (await isSo()) return;
  throw new Error(`it never came to this: ${what}`);
}
