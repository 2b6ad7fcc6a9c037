/** Mutual TLS on a socket that is there already: both sides show a certificate of one authority. */
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';

/** PEM texts: ours, and of the authority whose certificates are believed. */
export interface TlsFiles {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

/** As `block-ca` makes them; undefined without a directory. */
export async function readTlsFiles(directory: string | undefined): Promise<TlsFiles | undefined> {
  if (directory === undefined) return undefined;
  const names = ['ca-cert.pem', 'server-cert.pem', 'server-key.pem'];
  const [ca = '', cert = '', key = ''] = await Promise.all(
    names.map((name) => readFile(join(directory, name), 'utf8')),
  );
  return { ca, cert, key };
}

/** The side that was called; undefined when the other has no certificate of the authority. */
export function secureServer(socket: Socket, tls: TlsFiles): Promise<TLSSocket | undefined> {
  return new Promise((resolve) => {
    // Never listens: it only does for this socket what it would do for one that it has accepted.
    const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: true });
    server.once('secureConnection', resolve);
    server.once('tlsClientError', () => resolve(undefined));
    socket.once('close', () => resolve(undefined));
    server.emit('connection', socket);
  });
}

/** The side that calls `name`; undefined when the other is not that. */
export function secureClient(socket: Socket, tls: TlsFiles, name: string): Promise<TLSSocket | undefined> {
  return new Promise((resolve) => {
    const secured = connect({ ...tls, socket, rejectUnauthorized: true, servername: name });
    secured.once('secureConnect', () => resolve(secured));
    for (const event of ['error', 'close']) secured.on(event, () => resolve(undefined));
  });
}

/** Whom the other side's certificate names. */
export function nameOf(socket: TLSSocket): string | undefined {
  const { CN } = socket.getPeerCertificate().subject ?? {};
  return typeof CN === 'string' ? CN : undefined;
}
