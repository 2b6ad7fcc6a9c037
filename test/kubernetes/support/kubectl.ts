/** The test's hands: kubectl, as the administrator of the test cluster. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { KubeObject } from '../../../src/protocol/objects.ts';
import { eventually } from '../../support/eventually.ts';

export const UNION_PLUGIN = join(import.meta.dirname, '../../../bin/kubectl-union');

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What kubectl says on a machine so busy that the API server cannot even be asked. */
const NOT_ASKED = 'Unable to connect to the server: net/http: TLS handshake timeout';
const MAX_ATTEMPTS = 5;

/** Runs a program to its end; never throws for what it says. */
export async function run(command: string, args: readonly string[], input = ''): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    const outcome = await runOnce(command, args, input);
    if (attempt === MAX_ATTEMPTS || !outcome.stderr.includes(NOT_ASKED)) return outcome;
  }
}

function runOnce(command: string, args: readonly string[], input: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'pipe' });
    const text = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (chunk) => (text.stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk) => (text.stderr += chunk));
    child.once('error', reject).once('close', (code) => resolve({ code, ...text }));
    child.stdin.on('error', () => {}); // it may end without reading
    child.stdin.end(input);
  });
}

/** The output of a program that must succeed. */
export async function output(command: string, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, input);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}

export function kubectl(...args: readonly string[]): Promise<string> {
  return output('kubectl', args);
}

/** `kubectl union`: what it prints as JSON, also where it has found something wrong. */
export async function union<T>(...args: readonly string[]): Promise<T> {
  const { stdout, stderr } = await run(UNION_PLUGIN, [...args, '--output', 'json']);
  if (stdout === '') throw new Error(`kubectl union ${args.join(' ')}: ${stderr.trim()}`);
  return JSON.parse(stdout) as T;
}

/** Objects as one YAML text or as values. */
export async function apply(...objects: readonly (string | object)[]): Promise<void> {
  for (const object of objects) {
    const text = typeof object === 'string' ? object : JSON.stringify(object);
    await output('kubectl', ['apply', '--server-side', '-f', '-'], text);
  }
}

/** All objects that the words after `kubectl get` name; none when there are none. */
export async function list<T extends KubeObject>(...args: readonly string[]): Promise<readonly T[]> {
  const text = await kubectl('get', ...args, '--ignore-not-found', '--output', 'json');
  if (text.trim() === '') return [];
  const found = JSON.parse(text) as T | { readonly kind: 'List'; readonly items: readonly T[] };
  return 'items' in found ? found.items : [found];
}

export async function get<T extends KubeObject>(...args: readonly string[]): Promise<T | undefined> {
  return (await list<T>(...args))[0];
}

/** Waits until there are none of these any more. */
export async function gone(limitMs: number, ...args: readonly string[]): Promise<void> {
  const names = () => kubectl('get', ...args, '--ignore-not-found', '--output', 'name');
  let left = '';
  const look = async () => {
    left = await names();
    return left === '';
  };
  await eventually(`no ${args.join(' ')}`, look, limitMs).catch((error: Error) => {
    throw new Error(`${error.message}; left: ${left.trim().split('\n').join(', ')}`);
  });
}
