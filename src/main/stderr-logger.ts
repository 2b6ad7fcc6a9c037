/** The Logger of commands that people run in a shell: one plain line each on stderr, without the cost of loading winston. */
import { messageOf } from '../base/errors.ts';
import type { LogFields, Logger } from '../base/logger.ts';

/** Debug lines are left out; nothing is written while `silent` says so. */
export function createStderrLogger(prefix: string, silent: () => boolean = () => false, bound: LogFields = {}): Logger {
  const write = (event: string, fields: LogFields = {}) => {
    if (!silent()) process.stderr.write(`${prefix}: ${event}${formatFields({ ...bound, ...fields })}\n`);
  };
  return {
    error: write,
    warn: write,
    info: write,
    debug: () => {},
    child: (fields) => createStderrLogger(prefix, silent, { ...bound, ...fields }),
  };
}

function formatFields(fields: LogFields): string {
  return Object.entries(fields)
    .map(([name, value]) => ` ${name}=${value instanceof Error ? messageOf(value) : JSON.stringify(value)}`)
    .join('');
}
