/** The Logger of commands that people run in a shell: one plain line each, without the cost of loading winston. */
import { appendFileSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../base/errors.ts';
import type { LogFields, Logger } from '../base/logger.ts';

/** On stderr. Debug lines are left out; nothing is written while `silent` says so. */
export function createStderrLogger(prefix: string, silent: () => boolean = () => false, bound: LogFields = {}): Logger {
  return lineLogger((line) => {
    if (!silent()) process.stderr.write(`${prefix}: ${line}\n`);
  }, bound);
}

/** At the end of a file, each line with its time: for a command whose terminal shows other things. */
export function createFileLogger(path: string): Logger {
  return lineLogger((line) => {
    mkdirSync(dirname(path), { recursive: true });
    appendFileSync(path, `${new Date().toISOString()} ${line}\n`);
  }, {});
}

function lineLogger(write: (line: string) => void, bound: LogFields): Logger {
  const log = (event: string, fields: LogFields = {}) => write(`${event}${formatFields({ ...bound, ...fields })}`);
  return {
    error: log,
    warn: log,
    info: log,
    debug: () => {},
    child: (fields) => lineLogger(write, { ...bound, ...fields }),
  };
}

function formatFields(fields: LogFields): string {
  return Object.entries(fields)
    .map(([name, value]) => ` ${name}=${value instanceof Error ? messageOf(value) : JSON.stringify(value)}`)
    .join('');
}
