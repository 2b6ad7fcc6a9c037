/** A TCP port of this machine for a process that will listen on it, and for those that follow it when it is killed. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Not one of those that the kernel gives to whoever connects (net.ipv4.ip_local_port_range, from 32768 on): somebody would have it
 * when its process is started again. From 30000 on are Kubernetes's NodePorts.
 */
const FIRST = 20_000;
const END = 30_000;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST, END);
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
