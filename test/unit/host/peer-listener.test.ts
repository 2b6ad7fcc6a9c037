import { once } from 'node:events';
import { createConnection } from 'node:net';
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { encodeIntroduction, PeerListener } from '../../../src/host/block/peer-listener.ts';
import { type Certified, issueCertificate, makeAuthority } from '../../../src/host/development-ca.ts';
import { secureClient, type TlsFiles } from '../../../src/host/tls.ts';

const VOLUME = '1'.repeat(32);

describe('PeerListener with TLS', function () {
  this.timeout(20_000);
  let authority: Certified;
  let listener: PeerListener;
  let port: number;
  let heard: string[];

  const tlsOf = async (of: Certified, name: string): Promise<TlsFiles> => ({
    ca: authority.cert,
    ...(await issueCertificate(of, name)),
  });

  beforeEach(async () => {
    heard = [];
    authority = await makeAuthority();
    const tls = await tlsOf(authority, 'a');
    listener = new PeerListener({ listen: { port: 0, host: '127.0.0.1' }, tls, log: silentLogger });
    listener.register(VOLUME, async (from, input) => {
      heard.push(`${from}: ${await input.take(2)}`);
    });
    port = await listener.listen();
  });

  afterEach(() => listener.close());

  /** Says who it is and two bytes more, and waits until it is sent away. */
  async function speak(tls: TlsFiles, name: string): Promise<void> {
    const plain = createConnection(port, '127.0.0.1');
    plain.on('error', () => {});
    // Not `once`, which an error ends: who is sent away with something unread is told ECONNRESET.
    const closed = new Promise((resolve) => plain.on('close', resolve));
    await once(plain, 'connect');
    const socket = await secureClient(plain, tls, 'a');
    socket?.on('error', () => {});
    socket?.write(Buffer.concat([encodeIntroduction(name, VOLUME), Buffer.from('hi')]));
    socket?.resume();
    await closed;
  }

  it('hears who has a certificate with its name', async () => {
    await speak(await tlsOf(authority, 'b'), 'b');
    expect(heard).to.deep.equal(['b: hi']);
  });

  it('does not hear who has the certificate of another', async () => {
    await speak(await tlsOf(authority, 'b'), 'c');
    expect(heard).to.deep.equal([]);
  });

  it('does not hear who is of another authority', async () => {
    await speak(await tlsOf(await makeAuthority(), 'b'), 'b');
    expect(heard).to.deep.equal([]);
  });
});
