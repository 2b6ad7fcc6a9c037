/** fio(1) on a device: a job run to its end, and what became of it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

export interface FioRun {
  /** Neither an I/O error nor one of verification. */
  readonly ok: boolean;
  /** Its first complaints. */
  readonly said: string;
  readonly writtenBytes: number;
  /** All that is read is verified. */
  readonly verifiedBytes: number;
  /** Of one request. */
  readonly longestMs: number;
}

/** Past the page cache, several requests at a time; state is kept in `folder`, if any is. */
export async function fio(device: string, flags: readonly string[], folder: string): Promise<FioRun> {
  // As threads of one process, which can be waited for.
  const always = ['--thread', '--ioengine=libaio', '--direct=1', '--allow_file_create=0', '--output-format=json'];
  const child = spawn('fio', [...always, `--filename=${device}`, `--aux-path=${folder}`, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: folder,
  });
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  const start = output.search(/^\{$/m);
  const jobs: readonly Job[] = start < 0 ? [] : JSON.parse(output.slice(start)).jobs;
  const sum = (of: (job: Job) => number) => jobs.reduce((all, job) => all + of(job), 0);
  return {
    ok: child.exitCode === 0 && jobs.length > 0 && jobs.every(({ error }) => error === 0),
    said: `${complaints}${start < 0 ? output : output.slice(0, start)}`.slice(0, 1000),
    writtenBytes: sum(({ write }) => write.io_bytes),
    verifiedBytes: sum(({ read }) => read.io_bytes),
    longestMs: Math.max(
      0,
      ...jobs.flatMap(({ read, write, sync }) =>
        [read.clat_ns.max, write.clat_ns.max, sync.lat_ns.max].map((ns) => ns / 1e6),
      ),
    ),
  };
}

interface Job {
  readonly error: number;
  readonly read: Direction;
  readonly write: Direction;
  readonly sync: { readonly lat_ns: { readonly max: number } };
}

interface Direction {
  readonly io_bytes: number;
  readonly clat_ns: { readonly max: number };
}
