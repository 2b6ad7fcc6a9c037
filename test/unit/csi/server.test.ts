import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import * as http2 from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { UnionError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import type { RpcContext, RpcMeasurement } from '../../../src/csi/interceptors.ts';
import { type CsiServer, type Handlers, implement, startCsiServer } from '../../../src/csi/server.ts';
import { loadCsi } from '../../../src/protocol/proto.ts';

const csi = loadCsi();
type IdentityHandlers = Handlers<typeof csi.Identity.service>;

describe('csi server', () => {
  let directory: string;
  let socket: string;
  let stop: AbortController;
  let server: CsiServer | undefined;
  const clients: { close(): void }[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'union-csi-server-'));
    socket = join(directory, 'csi.sock');
    stop = new AbortController();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    stop.abort();
    await server?.stopped;
    server = undefined;
    rmSync(directory, { recursive: true });
  });

  async function serve(handlers: IdentityHandlers, measure?: (measurement: RpcMeasurement) => void) {
    const services = [implement(csi.Identity.service, handlers)];
    const options = { endpoint: `unix://${socket}`, services, log: silentLogger, ...(measure && { measure }) };
    server = await startCsiServer(options, stop.signal);
    const client = new csi.Identity(`unix://${socket}`, credentials.createInsecure());
    clients.push(client);
    return {
      probe: (deadline = Date.now() + 5000) =>
        new Promise((resolve) => {
          client.probe({}, { deadline }, (error, response) => resolve(error ?? response));
        }),
      client,
    };
  }

  it('answers with what the handler returns, on a socket of mode 0600', async () => {
    const { probe } = await serve({ Probe: async () => ({ ready: { value: true } }) });
    expect(await probe()).to.deep.equal({ ready: { value: true } });
    expect(statSync(socket).mode & 0o777).to.equal(0o600);
  });

  it('answers UNIMPLEMENTED to a method without a handler', async () => {
    const { probe } = await serve({});
    expect(((await probe()) as ServiceError).code).to.equal(status.UNIMPLEMENTED);
  });

  it('turns a UnionError into its status and message, and anything else into INTERNAL', async () => {
    let failure: Error = new UnionError('RESOURCE_EXHAUSTED', 'no space for branch b1');
    const measured: string[] = [];
    const { probe } = await serve(
      {
        Probe: () => {
          throw failure;
        },
      },
      ({ method, code }) => measured.push(`${method} ${code}`),
    );
    const first = (await probe()) as ServiceError;
    expect([first.code, first.details]).to.deep.equal([status.RESOURCE_EXHAUSTED, 'no space for branch b1']);
    failure = new TypeError('x is undefined');
    expect(((await probe()) as ServiceError).code).to.equal(status.INTERNAL);
    expect(measured).to.deep.equal(['Probe RESOURCE_EXHAUSTED', 'Probe INTERNAL']);
  });

  it("aborts the handler's signal when the deadline passes, and tells the handler the deadline", async () => {
    const seen = Promise.withResolvers<RpcContext>();
    const { probe } = await serve({
      Probe: async (_request, context) => {
        seen.resolve(context);
        await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
        throw context.signal.reason;
      },
    });
    const deadline = Date.now() + 100;
    expect(((await probe(deadline)) as ServiceError).code).to.equal(status.DEADLINE_EXCEEDED);
    const context = await seen.promise;
    expect(context.deadline).to.be.closeTo(deadline, 90);
    await until(() => context.signal.aborted);
    expect((context.signal.reason as UnionError).code).to.equal('DEADLINE_EXCEEDED');
  });

  it("aborts the handler's signal when the client cancels", async () => {
    const seen = Promise.withResolvers<RpcContext>();
    const { client } = await serve({
      Probe: async (_request, context) => {
        seen.resolve(context);
        return new Promise<never>(() => {});
      },
    });
    const call = client.probe({}, () => {});
    const context = await seen.promise;
    call.cancel();
    await until(() => context.signal.aborted);
    expect((context.signal.reason as UnionError).code).to.equal('CANCELLED');
  });

  for (const authority of ['/csi/csi.sock', 'unix:/csi/csi.sock', '', 'localhost']) {
    it(`answers a client whose :authority is "${authority}"`, async () => {
      await serve({ Probe: async () => ({ ready: { value: true } }) });
      const session = http2.connect('http://localhost', { createConnection: () => connect(socket) });
      try {
        // Twice: the second request refers to the header table that the first one filled.
        for (let i = 0; i < 2; i++) expect(await rawProbe(session, authority)).to.equal('0');
      } finally {
        session.destroy();
      }
    });
  }

  it('takes over the socket file of a process that was killed', async () => {
    await serve({ Probe: async () => ({}) });
    const other = new AbortController();
    // A listener that vanishes without unlinking: what kill -9 leaves.
    const { createServer } = await import('node:net');
    const stale = join(directory, 'stale.sock');
    const dead = createServer().listen(stale);
    await until(() => dead.listening);
    const { linkSync, renameSync } = await import('node:fs');
    linkSync(stale, `${stale}.kept`);
    await new Promise((resolve) => dead.close(resolve));
    renameSync(`${stale}.kept`, stale);

    const options = { endpoint: stale, services: [], log: silentLogger };
    const second = await startCsiServer(options, other.signal);
    other.abort();
    await second.stopped;
    expect(existsSync(stale)).to.equal(false);
  });

  it('refuses a socket that another process answers on, and leaves it alone', async () => {
    const { probe } = await serve({ Probe: async () => ({}) });
    const error = await failure(startCsiServer({ endpoint: socket, services: [], log: silentLogger }, stop.signal));
    expect(error.message).to.equal(`socket ${socket} is in use by another process; stop it or choose another endpoint`);
    expect(await probe()).to.deep.equal({ ready: null });
  });

  it('refuses a file that is no socket, a relative path and a path that is too long', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, 'precious');
    const start = (endpoint: string) =>
      failure(startCsiServer({ endpoint, services: [], log: silentLogger }, stop.signal));
    expect((await start(file)).message).to.match(/is not a socket; remove it or choose another endpoint$/);
    expect((await start('tcp://127.0.0.1:1')).message).to.match(/is not a unix socket; write unix:/);
    expect((await start(`/${'x'.repeat(120)}`)).message).to.match(/longer than 107 bytes/);
    expect(existsSync(file)).to.equal(true);
  });

  it('stops within a bound while a call hangs: the call is told to repeat, the socket is gone', async () => {
    const started = Promise.withResolvers<void>();
    const { probe } = await serve({
      Probe: async (_request, { signal }) => {
        started.resolve();
        return new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
    });
    const answer = probe();
    await started.promise;
    stop.abort();
    expect(((await answer) as ServiceError).code).to.equal(status.UNAVAILABLE);
    await server!.stopped;
    expect(existsSync(socket)).to.equal(false);
  });
});

function rawProbe(session: http2.ClientHttp2Session, authority: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/csi.v1.Identity/Probe',
      ':authority': authority,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', reject);
    stream.on('trailers', (trailers) => resolve(String(trailers['grpc-status'])));
    stream.on('response', (headers) => headers['grpc-status'] !== undefined && resolve(String(headers['grpc-status'])));
    stream.resume();
    stream.end(Buffer.alloc(5));
  });
}

async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('expected a failure');
}

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 5000; !condition(); ) {
    if (Date.now() > deadline) throw new Error('condition did not come true within 5 s');
    await new Promise((resolve) => setImmediate(resolve));
  }
}
