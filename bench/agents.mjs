#!/usr/bin/env node
/**
 * Many agents at once against one `receiver serve`, on this machine: each enrols, sends a first backup, then
 * next ones. `npm run build` first. It prints throughput, how long begin and commit take, the receiver's
 * memory, and errors.
 *
 *   node bench/agents.mjs [--agents 100] [--processes 4] [--first-mib 16] [--next 3] [--json]
 *
 * The agents are simulated: they speak the protocol, with TLS and certificates of their own, over random
 * content. What reading a device costs an agent is not measured here.
 */
import { fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const BLOCK = 65_536;
const BLOCKS_PER_BATCH = 16;
const BUILD = new URL('../build/ts/', import.meta.url);
const load = (path) => import(new URL(path, BUILD).href);
const COMMAND = fileURLToPath(new URL('../bin/stillpoint.js', import.meta.url));

if (process.send === undefined) await lead();
else process.once('message', (job) => work(job));

async function lead() {
  const { values } = parseArgs({
    options: {
      agents: { type: 'string', default: '100' },
      processes: { type: 'string', default: '4' },
      'first-mib': { type: 'string', default: '16' },
      next: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
    },
  });
  const [agents, processes, firstMib, next] = [
    values.agents,
    values.processes,
    values['first-mib'],
    values.next,
  ].map(Number);
  const dir = await mkdtemp(join(tmpdir(), 'stillpoint-agents-'));
  const store = join(dir, 'store');
  const state = ['--state', join(dir, 'state')];
  const run = async (...args) => {
    const child = spawn(process.execPath, [COMMAND, ...state, '--json', ...args], { stdio: 'ignore' });
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`${args.join(' ')}: exit code ${code}`);
  };
  await run('receiver', 'init', store, '--listen', '127.0.0.1:0');
  const receiver = spawn(process.execPath, [COMMAND, ...state, 'receiver', 'serve', store], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const url = await servingAt(receiver.stdout);
    let peakBytes = 0;
    const watching = setInterval(() => {
      peakBytes = Math.max(peakBytes, residentBytes(receiver.pid));
    }, 100);
    const { createInvite } = await load('src/receiver/access/invites.js');
    const names = Array.from({ length: agents }, (_, i) => `agent-${i + 1}`);
    const invites = [];
    for (const name of names)
      invites.push({ name, code: (await createInvite(store, name, new Date())).code });
    const startMs = performance.now();
    const results = await Promise.all(
      Array.from({ length: processes }, async (_, at) => {
        const child = fork(fileURLToPath(import.meta.url));
        child.send({ url, firstMib, next, invites: invites.filter((__, i) => i % processes === at) });
        const [result] = await once(child, 'message');
        child.disconnect();
        return result;
      }),
    );
    const all = (name) => results.flatMap((result) => result[name]);
    const bytes = all('bytes').reduce((sum, count) => sum + count, 0);
    const seconds = (performance.now() - startMs) / 1000;
    clearInterval(watching);
    const report = {
      ...{ agents, processes, firstMib, next, seconds, mibPerSecond: bytes / 2 ** 20 / seconds },
      sessions: all('commit').length,
      beginMs: percentiles(all('begin')),
      batchMs: percentiles(all('batch')),
      commitMs: percentiles(all('commit')),
      receiverPeakMib: peakBytes / 2 ** 20,
      errors: all('errors'),
    };
    if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else print(report);
    process.exitCode = report.errors.length === 0 ? 0 : 1;
  } finally {
    receiver.kill('SIGTERM');
    await once(receiver, 'exit');
    rmSync(dir, { recursive: true, force: true });
  }
}

function servingAt(stdout) {
  let text = '';
  return new Promise((resolve, reject) => {
    stdout.on('data', (chunk) => {
      text += chunk;
      const url = /https:\/\/127\.0\.0\.1:\d+/.exec(text)?.[0];
      if (url !== undefined) resolve(url);
    });
    stdout.once('end', () => reject(new Error('the receiver does not serve')));
  });
}

function residentBytes(pid) {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function percentiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

function print({ beginMs, batchMs, commitMs, errors, ...report }) {
  const show = ({ p50, p99, max }) => [p50, p99, max].map((ms) => ms.toFixed(0).padStart(8)).join('');
  const lines = [
    `${report.agents} agents in ${report.processes} processes, ${report.sessions} sessions, ${report.firstMib} MiB first`,
    `${report.seconds.toFixed(1)} s, ${report.mibPerSecond.toFixed(1)} MiB/s, receiver at most ${report.receiverPeakMib.toFixed(0)} MiB`,
    `ms         p50     p99     max`,
    `begin ${show(beginMs)}`,
    `batch ${show(batchMs)}`,
    `commit${show(commitMs)}`,
    `${errors.length} errors`,
    ...errors.slice(0, 10),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** Some of the agents, all at once. */
async function work({ url, firstMib, next, invites }) {
  const { enroll } = await load('src/protocol/enroll.js');
  const { receiverClient } = await load('src/protocol/client.js');
  const { retryingPort, RETRY_DEFAULT } = await load('src/protocol/retry.js');
  const { makeBatch } = await load('test/helpers/bytes/hand-made-batch.js');
  const { levelTree } = await load('test/helpers/bytes/level-tree.js');
  const { beginRequest, commitRequest } = await load('test/helpers/bytes/requests.js');
  const { PLAIN } = await load('test/helpers/bytes/digests.js');
  const result = { begin: [], batch: [], commit: [], bytes: [], errors: [] };
  const timed = async (what, call) => {
    const startMs = performance.now();
    const answer = await call();
    result[what].push(performance.now() - startMs);
    return answer;
  };
  const backUp = async (port, device, changed) => {
    const sessionId = randomBytes(16).toString('hex');
    const { geometry, leaves } = device;
    await timed('begin', () => port.begin(beginRequest({ sessionId, geometry })));
    let sequence = 0;
    for (let at = 0; at < changed.length; at += BLOCKS_PER_BATCH) {
      sequence += 1;
      const items = changed.slice(at, at + BLOCKS_PER_BATCH).map((blockIndex) => {
        const bytes = randomBytes(BLOCK);
        leaves.set(blockIndex, PLAIN.leafDigest(bytes));
        return { blockIndex, bytes };
      });
      const body = makeBatch(sessionId, sequence, items);
      await timed('batch', () => port.batch(sessionId, sequence, body));
      result.bytes.push(items.length * BLOCK);
    }
    const { root } = levelTree(geometry, leaves);
    await timed('commit', () => port.commit(sessionId, commitRequest({ batchCount: sequence, root })));
  };
  const agent = async ({ code, name }) => {
    let client = null;
    try {
      const { receiverId, authority, key, certificate } = await enroll(url, code, { retry: RETRY_DEFAULT });
      client = receiverClient({ url, receiverId, authority, credentials: { key, certificate } });
      const port = retryingPort(client, RETRY_DEFAULT);
      const count = (firstMib * 2 ** 20) / BLOCK;
      const device = { geometry: { sizeBytes: count * BLOCK, blockSize: BLOCK }, leaves: new Map() };
      await backUp(
        port,
        device,
        Array.from({ length: count }, (_, i) => i),
      );
      for (let i = 0; i < next; i += 1)
        await backUp(
          port,
          device,
          Array.from({ length: BLOCKS_PER_BATCH }, (_, k) => (k + i * BLOCKS_PER_BATCH) % count).sort(
            (a, b) => a - b,
          ),
        );
    } catch (error) {
      result.errors.push(`${name}: ${error.message}`);
    } finally {
      await client?.close();
    }
  };
  await Promise.all(invites.map(agent));
  process.send(result);
}
