/** `union-csi block-ca`: an authority for trying TLS between replicas out, and a certificate for each name. */
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Certified, issueCertificate, makeAuthority } from '../host/development-ca.ts';
import { parseFlags, UsageError } from './flags.ts';

const help = `usage: union-csi block-ca DIRECTORY NAME…

Makes a development CA in DIRECTORY, if there is none yet, and for each NAME a folder DIRECTORY/NAME with ca-cert.pem,
server-cert.pem and server-key.pem, and the same again as client-cert.pem and client-key.pem, as NBD clients want it: what
block-serve takes as --tls and --peer-tls. Between replicas NAME is the replica's id; clients ask for the server's host name.
Whoever can read DIRECTORY can make certificates; they are good for a year.
`;

export async function run(argv: string[]): Promise<number> {
  const { positionals } = parseFlags(help, { args: argv, allowPositionals: true });
  const [directory, ...names] = positionals;
  if (directory === undefined || names.length === 0) throw new UsageError('give a directory and a name; see --help');
  const odd = names.find((name) => name.includes('/') || name.startsWith('.') || name === '');
  if (odd !== undefined) throw new UsageError(`${odd} cannot be the name of a folder; choose another`);
  await makeCertificates(directory, names);
  process.stdout.write(`${names.map((name) => join(directory, name)).join('\n')}\n`);
  return 0;
}

/** A folder for each name, of the authority in `directory`. */
export async function makeCertificates(directory: string, names: readonly string[]): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const authority = await openAuthority(directory);
  for (const name of names) await writeCertificate(join(directory, name), authority, name);
}

async function openAuthority(directory: string): Promise<Certified> {
  const [cert, key] = [join(directory, 'ca-cert.pem'), join(directory, 'ca-key.pem')];
  const exists = await access(key).then(
    () => true,
    () => false,
  );
  if (exists) return { cert: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
  const authority = await makeAuthority();
  // The key last: without it there is no authority, and the next run makes one.
  await writeFile(cert, authority.cert);
  await writeFile(key, authority.key, { mode: 0o600, flag: 'wx' });
  return authority;
}

async function writeCertificate(folder: string, authority: Certified, name: string): Promise<void> {
  const { cert, key } = await issueCertificate(authority, name);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, 'ca-cert.pem'), authority.cert);
  for (const side of ['server', 'client']) {
    await writeFile(join(folder, `${side}-cert.pem`), cert);
    await writeFile(join(folder, `${side}-key.pem`), key, { mode: 0o600 });
  }
}
