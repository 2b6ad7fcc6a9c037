/**
 * What replication costs and how soon it is made good, with two replicas over loopback: random writes, how long a client waits when the
 * primary is killed, what a rebuild moves, and what clients have left of their speed meanwhile. Part of `npm run bench:block`.
 */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { eventually } from '../support/eventually.ts';
import type { NbdClient } from '../support/nbd-client.ts';
import { ReplicaProcesses } from '../support/replica-processes.ts';

const MIB = 1024 ** 2;
const FAILOVERS = 3;

export interface ReplicaSettings {
  readonly directory: string;
  readonly seconds: number;
  /** Of the volume that is rebuilt, and what of it is used. */
  readonly volumeMebibytes: number;
  readonly usedMebibytes: number;
}

interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly bar: { readonly kind: 'least' | 'most'; readonly value: number };
}

/** Prints each figure as soon as there is one: a later one that fails takes none with it. True when no bar is missed. */
export async function measureReplicas(settings: ReplicaSettings): Promise<boolean> {
  process.stdout.write('\ntwo replicas over loopback\n');
  const met: boolean[] = [];
  for (const measure of [writing, failingOver, rebuilding]) met.push(...(await measure(settings)).map(print));
  return met.every(Boolean);
}

/** True when its bar is not missed. */
function print({ name, value, unit, bar }: Figure): boolean {
  const met = bar.kind === 'least' ? value >= bar.value : value <= bar.value;
  const verdict = `(${met ? 'bar' : 'misses the bar'}: at ${bar.kind} ${bar.value})`;
  process.stdout.write(`${`${name} (${unit})`.padEnd(52)}${value.toFixed(2).padStart(8)}  ${verdict}\n`);
  return met;
}

async function withReplicas<T>(
  settings: ReplicaSettings,
  options: { readonly mebibytes: number; readonly wired: boolean },
  work: (replicas: ReplicaProcesses) => Promise<T>,
): Promise<T> {
  const blocks = (options.mebibytes * MIB) / BLOCK_SIZE;
  const replicas = await ReplicaProcesses.start(['a', 'b'], {
    blocks,
    parent: settings.directory,
    wired: options.wired,
  });
  try {
    const { client } = await replicas.connect();
    client.close();
    await replicas.allInSync();
    return await work(replicas);
  } finally {
    await replicas.close();
  }
}

interface Load {
  readonly operationsPerSecond: number;
}

async function fio(socket: string, flags: readonly string[]): Promise<Load> {
  const target = ['--name=bench', '--output-format=json', '--ioengine=nbd', `--uri=nbd+unix:///?socket=${socket}`];
  const random = ['--bs=4k', '--iodepth=32', '--size=256M', '--time_based'];
  const { stdout } = await promisify(execFile)('fio', [...target, ...random, ...flags]);
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs;
  const operations = job.read.total_ios + job.write.total_ios;
  return { operationsPerSecond: operations / (job.job_runtime / 1000) };
}

async function primaryOf(replicas: ReplicaProcesses): Promise<string> {
  const { id, client } = await replicas.connect();
  client.close();
  return id;
}

async function writing(settings: ReplicaSettings): Promise<readonly Figure[]> {
  return await withReplicas(settings, { mebibytes: 4096, wired: false }, async (replicas) => {
    const socket = replicas.socketOf(await primaryOf(replicas));
    const load = await fio(socket, ['--rw=randwrite', `--runtime=${settings.seconds}`, '--end_fsync=1']);
    const bar = { kind: 'least', value: 15 } as const;
    return [{ name: 'random write 4 KiB', value: load.operationsPerSecond / 1000, unit: 'k/s', bar }];
  });
}

/** The longest that a client with one forced write after the other has waited for an answer. */
async function failingOver(settings: ReplicaSettings): Promise<readonly Figure[]> {
  return await withReplicas(settings, { mebibytes: 64, wired: false }, async (replicas) => {
    let worst = 0;
    for (let round = 0; round < FAILOVERS; round++) {
      const write = async (client: NbdClient, id: string) => {
        await client.write(0, Buffer.alloc(BLOCK_SIZE, round), true);
        return id;
      };
      const victim = await replicas.use(write);
      const began = performance.now();
      await replicas.kill(victim);
      await replicas.use(write, replicas.others(victim));
      worst = Math.max(worst, performance.now() - began);
      replicas.start(victim);
      await replicas.allInSync();
    }
    const bar = { kind: 'most', value: 3 } as const;
    return [{ name: 'a write waits when the primary is killed', value: worst / 1000, unit: 's', bar }];
  });
}

async function rebuilding(settings: ReplicaSettings): Promise<readonly Figure[]> {
  const { volumeMebibytes, usedMebibytes, seconds } = settings;
  return await withReplicas(settings, { mebibytes: volumeMebibytes, wired: true }, async (replicas) => {
    const id = await primaryOf(replicas);
    await replicas.use((client) => fill(client, usedMebibytes));
    const idle = await rebuild(replicas, id, async () => {});
    const load = ['--rw=randrw', `--runtime=${seconds}`];
    const alone = await fio(replicas.socketOf(id), load);
    const busy = await rebuild(replicas, id, () => fio(replicas.socketOf(id), load));
    const was = `${usedMebibytes} MiB of ${volumeMebibytes} MiB`;
    process.stdout.write(`rebuilt ${was} in ${idle.seconds.toFixed(1)} s, with clients ${busy.seconds.toFixed(1)} s\n`);
    if (busy.workSeconds > busy.seconds)
      process.stdout.write('the rebuild ended before the clients did: take --used larger\n');
    const kept = busy.result.operationsPerSecond / alone.operationsPerSecond;
    return [
      {
        name: 'a rebuild moves, of what is used',
        value: idle.bytes / MIB / usedMebibytes,
        unit: '×',
        bar: { kind: 'most', value: 1.1 },
      },
      {
        name: 'clients keep of their speed meanwhile',
        value: kept,
        unit: '×',
        bar: { kind: 'least', value: 0.5 },
      },
    ];
  });
}

/** Takes the other's disk away and has it rebuilt, with some work from when the first content is on its way. */
async function rebuild<T>(replicas: ReplicaProcesses, id: string, work: () => Promise<T>) {
  const lost = replicas.others(id)[0]!;
  await replicas.kill(lost);
  await replicas.evicted(lost);
  rmSync(replicas.directoryOf(lost), { recursive: true });
  const [wire] = replicas.wires(id, lost);
  const before = wire!.passed;
  const began = performance.now();
  const secondsSince = () => (performance.now() - began) / 1000;
  replicas.start(lost);
  const rebuilt = replicas.allInSync().then(secondsSince);
  await eventually('content is on its way', () => wire!.passed - before > 8 * MIB, 60_000);
  const result = await work();
  const workSeconds = secondsSince();
  return { result, workSeconds, seconds: await rebuilt, bytes: wire!.passed - before };
}

/** Content that no part of the way can take for zeros. */
async function fill(client: NbdClient, mebibytes: number): Promise<void> {
  const data = Buffer.alloc(MIB, 'content');
  for (let index = 0; index < mebibytes; index++) await client.write(index * MIB, data);
  await client.flush();
}
