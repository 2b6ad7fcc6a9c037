/** Kubeconfigs of the kinds that people have, and messages for those that do not work. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { loadAccess } from '../../../src/kubernetes/kubeconfig.ts';

describe('loadAccess', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'union-csi-kubeconfig-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  function kubeconfig(user: object, cluster: object = {}): string {
    const path = join(directory, 'config');
    const config = {
      'current-context': 'main',
      contexts: [{ name: 'main', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:6443/', ...cluster } }],
      users: [{ name: 'u', user }],
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  }

  it('reads certificates, inline or from files beside it', async () => {
    writeFileSync(join(directory, 'ca.pem'), 'CA');
    const inline = (text: string) => Buffer.from(text).toString('base64');
    const user = { 'client-certificate-data': inline('CERT'), 'client-key-data': inline('KEY') };
    const access = loadAccess(kubeconfig(user, { 'certificate-authority': 'ca.pem', 'tls-server-name': 'k8s' }));
    expect(access.server).to.equal('https://127.0.0.1:6443');
    expect(access.tls).to.deep.equal({
      ...{ ca: Buffer.from('CA'), cert: Buffer.from('CERT'), key: Buffer.from('KEY') },
      serverName: 'k8s',
    });
    expect(await access.authorization()).to.equal(undefined);
  });

  it('reads a token file anew for each request: tokens rotate', async () => {
    writeFileSync(join(directory, 'token'), 'one\n');
    const access = loadAccess(kubeconfig({ tokenFile: 'token' }));
    expect(await access.authorization()).to.equal('Bearer one');
    writeFileSync(join(directory, 'token'), 'two\n');
    expect(await access.authorization()).to.equal('Bearer two');
    expect(await loadAccess(kubeconfig({ token: 'three' })).authorization()).to.equal('Bearer three');
  });

  it('lets client-node sign in where an exec plugin does', async () => {
    const credential = {
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token: 'four' },
    };
    const apiVersion = 'client.authentication.k8s.io/v1';
    const exec = { apiVersion, command: 'echo', args: [JSON.stringify(credential)], interactiveMode: 'Never' };
    expect(await loadAccess(kubeconfig({ exec })).authorization()).to.equal('Bearer four');
  });

  it('names the file and what is wrong with it', () => {
    const path = join(directory, 'broken');
    expect(() => loadAccess(path)).to.throw(`kubeconfig ${path}: ENOENT`);
    writeFileSync(path, 'clusters: [');
    expect(() => loadAccess(path)).to.throw(/ at line 1, column \d+$/);
    writeFileSync(path, '{}');
    expect(() => loadAccess(path)).to.throw('no current-context; choose one with kubectl config use-context');
    writeFileSync(path, 'current-context: x');
    expect(() => loadAccess(path)).to.throw('current context "x" is not among its contexts');
  });

  it('says what to do outside of a pod', () => {
    const host = process.env.KUBERNETES_SERVICE_HOST;
    delete process.env.KUBERNETES_SERVICE_HOST;
    try {
      expect(() => loadAccess(undefined)).to.throw('not in a pod of a cluster; give --kubeconfig FILE');
    } finally {
      if (host !== undefined) process.env.KUBERNETES_SERVICE_HOST = host;
    }
  });
});
