/** What is on a device, found out without guessing: by blkid(8), and by reading where it finds nothing. */
import { UnionError } from '../base/errors.ts';
import { command } from './command.ts';

export type DeviceContent =
  | { readonly kind: 'blank' }
  | { readonly kind: 'filesystem'; readonly type: string }
  | { readonly kind: 'unknown'; readonly what: string };

/** So much at the beginning and at the end must be zeros for a device to be blank. */
const LOOK_BYTES = 1024 ** 2;

/** Throws when it cannot be told. */
export async function probeContent(device: string, sizeBytes: number, signal: AbortSignal): Promise<DeviceContent> {
  const found = await unless(2, command('blkid', ['--probe', '--output', 'export', device], signal));
  if (found !== undefined) {
    const type = /^TYPE=(.*)$/m.exec(found)?.[1];
    const table = /^PTTYPE=(.*)$/m.exec(found)?.[1];
    if (type !== undefined) return { kind: 'filesystem', type };
    return { kind: 'unknown', what: table === undefined ? 'something unnamed' : `a ${table} partition table` };
  }
  for (const skip of [0, Math.max(0, sizeBytes - LOOK_BYTES)]) {
    const ranges = ['--bytes', String(LOOK_BYTES), '--ignore-initial', `${skip}:0`];
    const equal = await unless(1, command('cmp', ['--silent', ...ranges, device, '/dev/zero'], signal));
    if (equal === undefined) return { kind: 'unknown', what: 'data that no filesystem is known by' };
  }
  return { kind: 'blank' };
}

/** Undefined when the command ends with that code, which is an answer. */
async function unless(code: number, output: Promise<string>): Promise<string | undefined> {
  return await output.catch((error: unknown) => {
    if (error instanceof UnionError && error.details.exitCode === code) return undefined;
    throw error;
  });
}
