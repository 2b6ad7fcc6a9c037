/** Where nodes say they are reached, and what a server says that listens on all addresses. */
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { formatAddress, parseAddress } from '../../../src/controllers/block/addresses.ts';
import { NbdServer } from '../../../src/host/nbd/server.ts';
import { needs } from '../../support/skip.ts';

describe('addresses of nodes', () => {
  for (const host of ['10.0.0.1', 'node-1', 'fd00::1', '::']) {
    it(`are read as they were written: ${host}`, () => {
      expect(parseAddress(formatAddress({ host, port: 9842 }))).to.deep.equal({ host, port: 9842 });
    });
  }

  it('are none without a port', () => {
    for (const text of [undefined, '', 'node-1', '::1', ':::9842']) expect(parseAddress(text)).to.equal(undefined);
  });

  it('are what a server on all addresses says', async function () {
    needs(this, ipv6);
    const server = new NbdServer({ listen: { host: '::', port: 0 }, exports: [], tls: undefined, log: silentLogger });
    const address = parseAddress(await server.listen());
    await server.close();
    expect(address?.host).to.equal('::');
    expect(address?.port).to.be.greaterThan(0);
  });
});

function ipv6(): string | undefined {
  try {
    return readFileSync('/proc/net/if_inet6', 'utf8') === '' ? 'needs IPv6' : undefined;
  } catch {
    return 'needs IPv6';
  }
}
