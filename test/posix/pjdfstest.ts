/**
 * Runs pjdfstest (the Rust one, 0.2.2) on a directory and reads its report, one line a test:
 * `group::name   ok|FAILED|skipped`, with indented lines of explanation below.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { findTool } from './tools.ts';

export type Outcome = 'ok' | 'FAILED' | 'skipped';

export interface TestOutcome {
  readonly outcome: Outcome;
  /** First line of the explanation, or empty. */
  readonly detail: string;
}

/** By name of the test. */
export type Report = ReadonlyMap<string, TestOutcome>;

const configuration = fileURLToPath(new URL('pjdfstest.toml', import.meta.url));
const timeoutMs = 120_000;

/** Throws when the suite itself did not come to its end. */
export async function runPjdfstest(directory: string): Promise<Report> {
  const tool = findTool('pjdfstest', 'cargo install pjdfstest --version 0.2.2 --locked');
  const child = spawn(tool, ['-c', configuration, '-p', directory], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(timeoutMs),
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  await once(child, 'close');
  const report = parseReport(output);
  const total = /^Summary: .* (\d+) total$/m.exec(output)?.[1];
  if (total === undefined || Number(total) !== report.size) {
    throw new Error(`pjdfstest did not finish on ${directory}: ${output.slice(-2000)}`);
  }
  return report;
}

export function parseReport(output: string): Report {
  const report = new Map<string, TestOutcome>();
  const lines = output.split('\n');
  for (const [index, line] of lines.entries()) {
    const match = /^(\S+::\S+)\s+(ok|FAILED|skipped)$/.exec(line);
    if (!match) continue;
    const detail = lines[index + 1]?.startsWith('\t') ? lines[index + 1]!.trim() : '';
    report.set(match[1]!, { outcome: match[2] as Outcome, detail });
  }
  return report;
}

export function namesOf(report: Report, outcome: Outcome): string[] {
  return [...report].filter(([, test]) => test.outcome === outcome).map(([name]) => name);
}

/** The failures as text: by group, each with its explanation. */
export function describeFailures(report: Report): string {
  const failed = namesOf(report, 'FAILED').sort();
  const groups = Map.groupBy(failed, (name) => name.split('::')[0]!);
  return [...groups]
    .map(([group, names]) => {
      const lines = names.map((name) => `    ${name}  ${report.get(name)!.detail}\n`);
      return `  ${group} ${names.length}\n${lines.join('')}`;
    })
    .join('');
}
