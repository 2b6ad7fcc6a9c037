/**
 * Command line flags for every command: node:util.parseArgs, with errors in our words that name the nearest known flag.
 * A UsageError is the caller's mistake: the command exits with 2 instead of 1 (cli.ts).
 */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { messageOf } from '../base/errors.ts';
import { nearest } from '../base/nearest.ts';

export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** Thrown when a command was asked for its help, which the dispatcher prints. */
export class HelpAsked extends Error {
  readonly help: string;

  constructor(help: string) {
    super('help was asked for');
    this.name = 'HelpAsked';
    this.help = help;
  }
}

const HELP_FLAG = { help: { type: 'boolean', short: 'h' } } as const;

/** As parseArgs, but throws UsageError, and HelpAsked for --help. Flags only, unless `allowPositionals` is set. */
export function parseFlags<T extends ParseArgsConfig>(help: string, config: T): ReturnType<typeof parseArgs<T>> {
  const options = { ...config.options, ...HELP_FLAG };
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ ...config, options });
  } catch (error) {
    throw new UsageError(describe(messageOf(error), Object.keys(options)));
  }
  const { help: isAsked, ...values } = parsed.values;
  if (isAsked) throw new HelpAsked(help);
  return { ...parsed, values } as ReturnType<typeof parseArgs<T>>;
}

/** The value of a flag that must be given. */
export function required(value: string | undefined, flag: string): string {
  if (value === undefined || value === '') throw new UsageError(`--${flag} is missing; see --help`);
  return value;
}

/** The value of an optional port flag. */
export function parsePort(value: string | undefined, flag: string): number | undefined {
  if (value === undefined) return undefined;
  const port = Number(value);
  if (!/^\d+$/.test(value) || port > 65535) {
    throw new UsageError(`--${flag} ${value} is not a port; write a number from 0 to 65535`);
  }
  return port;
}

/** Milliseconds of a duration like 90s, 10m or 2h. */
export function parseDuration(value: string, flag: string): number {
  const [, count, unit] = /^(\d{1,6})([smh])$/.exec(value) ?? [];
  if (count === undefined) throw new UsageError(`--${flag} ${value} is not a duration; write one like 90s, 10m or 2h`);
  return Number(count) * { s: 1_000, m: 60_000, h: 3_600_000 }[unit as 's' | 'm' | 'h'];
}

/** Names what `word` was perhaps meant to be, for the end of a message: `; did you mean --dir?`. */
export function suggestion(word: string, known: readonly string[], prefix = ''): string {
  const guess = nearest(word, known);
  return guess === undefined ? '' : `; did you mean ${prefix}${guess}?`;
}

function describe(message: string, known: readonly string[]): string {
  const unknown = /^Unknown option '(-{1,2})([^']+)'/.exec(message);
  if (unknown) {
    const [, dashes, name = ''] = unknown;
    const hint = dashes === '--' ? suggestion(name, known, '--') : '';
    return `unknown flag ${dashes}${name}${hint || '; see --help'}`;
  }
  const positional = /^Unexpected argument '([^']*)'/.exec(message);
  if (positional) return `unexpected argument ${positional[1]}; see --help`;
  const flag = /^Option '([^']+)'/
    .exec(message)?.[1]
    ?.replace(/ <value>$/, '')
    .split(', ')
    .at(-1);
  if (flag && message.includes('does not take an argument')) return `${flag} takes no value`;
  if (flag) return `${flag} needs a value`;
  return message;
}
