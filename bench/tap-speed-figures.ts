/** The tap as an NBD server: against others on the same image, and what its map file costs. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { runFio, runNbdcopy } from './fio.js';
import { type NbdServer, TapServer } from './nbd-servers.js';
import { shell } from './process.js';
import { type Row, times } from './report.js';
import {
  type Bench,
  figure,
  IMAGE_BYTES,
  load,
  mapOf,
  perSecond,
  RANDOM_WRITE,
  Samples,
  SHAPES,
  startTap,
  withServer,
} from './tap-bench.js';

/** Its regions are 16,384, of 4 MiB each. */
const WIDE_BYTES = 64 * 2 ** 30;
const RATIO_TARGET = 0.9;

export async function againstPeers(bench: Bench): Promise<Row[]> {
  const { image, directory, rounds, peers } = bench;
  const servers = [
    (): Promise<NbdServer> => startTap(bench),
    ...peers.map((start) => () => start(image, directory)),
  ];
  const measures: readonly [string, (uri: string) => Promise<number>][] = [
    ...SHAPES.map((shape): [string, (uri: string) => Promise<number>] => [
      shape.name,
      async (uri) => (await runFio(uri, load(bench, shape), directory)).bytesPerSecond,
    ]),
    ['nbdcopy from it', (uri) => runNbdcopy(uri, 'null:', IMAGE_BYTES)],
    ['nbdcopy to it', (uri) => runNbdcopy(source(bench), uri, IMAGE_BYTES)],
  ];
  shell('cp', '--sparse=never', '--reflink=never', image, source(bench));
  const rows: Row[] = [];
  for (const [name, run] of measures) {
    const samples = new Samples();
    for (let round = 0; round < rounds; round++) {
      for (const start of servers) {
        shell('sync', '--file-system', directory);
        const server = await start();
        samples.add(server.name, await withServer(server, () => run(server.uri)));
      }
    }
    rows.push(peerRow(name, samples));
  }
  rmSync(source(bench));
  return rows;
}

const source = (bench: Bench) => join(bench.directory, 'source.raw');

function peerRow(name: string, samples: Samples): Row {
  const [ours = '', ...peers] = samples.names();
  const ratio = samples.median(ours) / Math.max(...peers.map((peer) => samples.median(peer)));
  const told = (server: string) => figure(name, samples.median(server));
  return {
    figure: `tap, ${name}`,
    ours: told(ours),
    yardstick: peers.map((peer) => `${peer} ${told(peer)}`).join(', '),
    ratio: times(ratio),
    target: `≥ ${times(RATIO_TARGET)} the fastest`,
    met: ratio >= RATIO_TARGET,
  };
}

export async function mapCost(bench: Bench): Promise<Row[]> {
  const { directory } = bench;
  const wide = join(directory, 'wide.raw');
  const samples = new Samples();
  for (let round = 0; round < bench.rounds; round++) {
    for (const mapPath of [null, mapOf(bench)]) {
      const kind = mapPath === null ? 'without' : 'with';
      rmSync(wide, { force: true });
      shell('truncate', `--size=${WIDE_BYTES}`, wide);
      shell('sync', '--file-system', directory);
      const tap = await TapServer.start(wide, directory, mapPath);
      const run = async (name: string, rangeBytes: number) =>
        samples.add(
          `${name} ${kind}`,
          (await runFio(tap.uri, load(bench, RANDOM_WRITE, { rangeBytes }), directory)).bytesPerSecond,
        );
      await withServer(tap, async () => {
        // From a commit on there is a point, and changes since then are remembered.
        await tap.hold(directory, null);
        await tap.call('commit');
        await run('clean', WIDE_BYTES);
        await runFio(tap.uri, load(bench, RANDOM_WRITE, { rangeBytes: IMAGE_BYTES }), directory);
        await run('steady', IMAGE_BYTES);
      });
    }
  }
  rmSync(wide);
  const row = (name: string, what: string): Row => ({
    figure: `tap, 4 KiB random write, QD 32, ${what}, with map file`,
    ours: perSecond(samples.median(`${name} with`) / 4096),
    yardstick: `without ${perSecond(samples.median(`${name} without`) / 4096)}`,
    ratio: times(samples.median(`${name} with`) / samples.median(`${name} without`)),
    target: null,
    met: null,
  });
  return [
    row('clean', 'over 64 GiB right after a commit: nearly each write the first to its region'),
    row('steady', 'over 1 GiB already marked'),
  ];
}
