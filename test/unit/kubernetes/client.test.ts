/** The client over TLS as real clusters have it: their own certificate authority, and client certificates. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import type { UnionError } from '../../../src/base/errors.ts';
import { createKubeClient } from '../../../src/kubernetes/client.ts';
import type { TlsAccess } from '../../../src/kubernetes/kubeconfig.ts';
import { needs, program } from '../../support/skip.ts';

describe('kube client over TLS', () => {
  const { signal } = new AbortController();
  let directory: string;
  let server: Server;
  let tls: TlsAccess;

  before(async function () {
    needs(this, program('openssl'));
    directory = mkdtempSync(join(tmpdir(), 'union-csi-tls-'));
    const read = (name: string) => readFileSync(join(directory, name));
    const subject = ['-subj', '/CN=tester', '-addext', 'subjectAltName=DNS:kubernetes'];
    const key = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      'key',
      '-out',
      'cert',
    ];
    execFileSync('openssl', ['req', '-x509', ...key, ...subject, '-days', '1'], { cwd: directory, stdio: 'ignore' });
    // One self-signed certificate is authority, server and client at once.
    tls = { ca: read('cert'), cert: read('cert'), key: read('key'), serverName: 'kubernetes' };
    const options = { key: read('key'), cert: read('cert'), ca: read('cert'), requestCert: true };
    server = createServer({ ...options, rejectUnauthorized: false }, (request, response) => {
      const socket = request.socket as TLSSocket;
      const who = socket.authorized ? socket.getPeerCertificate().subject.CN : 'nobody';
      response.end(JSON.stringify({ who, authorization: request.headers.authorization }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });

  after(async () => {
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    rmSync(directory, { recursive: true });
  });

  async function ask(access: TlsAccess): Promise<unknown> {
    const { port } = server.address() as AddressInfo;
    const client = createKubeClient({
      server: `https://127.0.0.1:${port}`,
      tls: access,
      authorization: async () => 'Bearer token',
    });
    try {
      return (await client.request({ method: 'GET', path: '/version' }, signal)).body;
    } finally {
      client.close();
    }
  }

  it('trusts the authority of the kubeconfig, shows its certificate and sends its token', async () => {
    expect(await ask(tls)).to.deep.equal({ who: 'tester', authorization: 'Bearer token' });
  });

  it('refuses a server that the authority did not sign, unless told to trust anything', async () => {
    const error = (await ask({}).catch((thrown: unknown) => thrown)) as UnionError;
    expect([error.code, error.message]).to.satisfy(
      ([code, message]: string[]) => code === 'UNAVAILABLE' && /self-signed certificate/.test(message!),
    );
    expect(await ask({ insecure: true })).to.deep.equal({ who: 'nobody', authorization: 'Bearer token' });
  });
});
