/**
 * The Logger of commands that run as services: winston, one JSON object a line on stderr, or a readable line on a terminal.
 * UNION_CSI_LOG_LEVEL chooses error, warn, info (default) or debug.
 */
import winston from 'winston';
import { messageOf } from '../base/errors.ts';
import type { LogFields, Logger } from '../base/logger.ts';

export function createLogger(component: string): Logger {
  const { combine, timestamp, json, printf } = winston.format;
  const readable = printf(({ timestamp: time, level, event, ...fields }) => {
    const rest = Object.entries(fields).map(([name, value]) =>
      value === '' ? '' : ` ${name}=${JSON.stringify(value)}`,
    );
    return `${time} ${level.padEnd(5)} ${event}${rest.join('')}`;
  });
  // Winston wants a message in every line; most of ours are told by their event and fields.
  const replacer = (key: string, value: unknown) => (key === 'message' && value === '' ? undefined : value);
  const levels = ['error', 'warn', 'info', 'debug'];
  const sink = winston.createLogger({
    level: process.env.UNION_CSI_LOG_LEVEL ?? 'info',
    defaultMeta: { component },
    format: combine(timestamp(), process.stderr.isTTY ? readable : json({ replacer })),
    transports: [new winston.transports.Console({ stderrLevels: levels })],
  });
  return wrap(sink);
}

/** Errors among the fields become their messages; bigints become strings, which JSON does not know. */
function wrap(sink: winston.Logger): Logger {
  const plain = (fields: LogFields | undefined) =>
    Object.fromEntries(
      Object.entries(fields ?? {}).map(([name, value]) => [
        name,
        value instanceof Error ? messageOf(value) : typeof value === 'bigint' ? String(value) : value,
      ]),
    );
  // As one object: given apart, winston glues a field called message to the event's name.
  const at = (level: string) => (event: string, fields?: LogFields) => {
    sink.log({ message: '', ...plain(fields), level, event });
  };
  const child = (fields: LogFields) => wrap(sink.child(plain(fields)));
  return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug'), child };
}
