/**
 * An authority for trying TLS out, and certificates of it: for servers and clients alike, each with one name. Its key lies in a file;
 * whoever has better uses their own. Source: RFC 5280, by way of node-forge.
 */
import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import forge from 'node-forge';

const KEY_BITS = 2048;
const DAYS = 365;
const DAY_MS = 86_400_000;

/** PEM texts. */
export interface Certified {
  readonly cert: string;
  readonly key: string;
}

export async function makeAuthority(): Promise<Certified> {
  const extensions = [
    { name: 'basicConstraints', cA: true, critical: true },
    { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    { name: 'subjectKeyIdentifier' },
  ];
  return await certify('union-csi development CA', extensions, undefined);
}

/** `name` is what the other side of a connection is asked to be. */
export async function issueCertificate(authority: Certified, name: string): Promise<Certified> {
  const extensions = [
    { name: 'basicConstraints', cA: false, critical: true },
    { name: 'keyUsage', digitalSignature: true, keyEncipherment: true, critical: true },
    { name: 'extKeyUsage', serverAuth: true, clientAuth: true },
    { name: 'subjectAltName', altNames: [{ type: 2, value: name }] },
  ];
  return await certify(name, extensions, authority);
}

async function certify(name: string, extensions: object[], authority: Certified | undefined): Promise<Certified> {
  // By Node itself: node-forge takes seconds for it.
  const { publicKey, privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: KEY_BITS });
  const key = String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(String(publicKey.export({ type: 'spki', format: 'pem' })));
  // A leading zero bit: the number must be positive.
  certificate.serialNumber = `00${randomBytes(16).toString('hex')}`;
  // Clocks of other machines may be behind.
  certificate.validity.notBefore = new Date(Date.now() - DAY_MS);
  certificate.validity.notAfter = new Date(Date.now() + DAYS * DAY_MS);
  const subject = [{ name: 'commonName', value: name }];
  certificate.setSubject(subject);
  certificate.setIssuer(authority ? forge.pki.certificateFromPem(authority.cert).subject.attributes : subject);
  certificate.setExtensions(extensions);
  certificate.sign(forge.pki.privateKeyFromPem(authority?.key ?? key), forge.md.sha256.create());
  return { cert: forge.pki.certificateToPem(certificate), key };
}
