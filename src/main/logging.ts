/**
 * The Logger of commands that run as services: winston, one JSON object a line on stderr, or a readable line on a terminal.
 * UNION_CSI_LOG_LEVEL chooses error, warn, info (default) or debug.
 */
import winston from 'winston';
import { messageOf } from '../base/errors.ts';
import type { LogFields, Logger } from '../base/logger.ts';

export function createLogger(component: string): Logger {
  const { combine, timestamp, json, printf } = winston.format;
  const readable = printf(({ timestamp: time, level, message, ...fields }) => {
    const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
    return `${time} ${level.padEnd(5)} ${message}${rest.join('')}`;
  });
  const levels = ['error', 'warn', 'info', 'debug'];
  const sink = winston.createLogger({
    level: process.env.UNION_CSI_LOG_LEVEL ?? 'info',
    defaultMeta: { component },
    format: combine(timestamp(), process.stderr.isTTY ? readable : json()),
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
  return {
    error: (event, fields) => void sink.error(event, plain(fields)),
    warn: (event, fields) => void sink.warn(event, plain(fields)),
    info: (event, fields) => void sink.info(event, plain(fields)),
    debug: (event, fields) => void sink.debug(event, plain(fields)),
    child: (fields) => wrap(sink.child(plain(fields))),
  };
}
