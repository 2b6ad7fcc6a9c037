/**
 * What a process and the systemd that started it tell each other: that it is ready, and which descriptors systemd is to keep for
 * the next process of the service. Without NOTIFY_SOCKET nobody is told.
 * Source: sd_notify(3), sd_listen_fds(3), "File Descriptor Store" of systemd's documentation.
 */
import { closeSync } from 'node:fs';
import { sendMessage } from './descriptor-message.ts';
import { withSocketAddress } from './socket-address.ts';
import { AF_UNIX, connect, SOCK_DGRAM, SOCK_NONBLOCK_CLOEXEC, socket } from './syscalls.ts';

const FIRST = 3;

export function notifyReady(): void {
  tell('READY=1');
}

/** Names are letters, digits, dashes. The descriptors stay ours. */
export function storeDescriptors(descriptors: Readonly<Record<string, number>>): void {
  for (const [name, fd] of Object.entries(descriptors)) tell(`FDSTORE=1\nFDNAME=${name}`, fd);
}

export function forgetDescriptors(names: readonly string[]): void {
  for (const name of names) tell(`FDSTOREREMOVE=1\nFDNAME=${name}`);
}

/** Those that a process of the service before stored: ours, by name. */
export function storedDescriptors(): ReadonlyMap<string, number> {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = process.env;
  if (Number(LISTEN_PID) !== process.pid) return new Map();
  const names = LISTEN_FDNAMES.split(':');
  return new Map(Array.from({ length: Number(LISTEN_FDS) }, (_, index) => [names[index] ?? '', FIRST + index]));
}

function tell(message: string, fd?: number): void {
  const path = process.env.NOTIFY_SOCKET;
  if (path === undefined || !path.startsWith('/')) return;
  const connection = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK_CLOEXEC, 0);
  try {
    withSocketAddress(path, (address) => connect(connection, address, address.length));
    sendMessage(connection, Buffer.from(message), fd === undefined ? [] : [fd]);
  } finally {
    closeSync(connection);
  }
}
