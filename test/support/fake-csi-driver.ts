/**
 * A small CSI driver whose volumes are directories, for tests of the embedded cluster: it keeps every call it gets, may be told
 * to fail, and insists on the order that CSI prescribes.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { bindMount, unmountOnce } from '../../src/host/mounter.ts';
import { mountAt } from '../../src/host/mountinfo.ts';
import { loadCsi, loadRegistration } from '../../src/protocol/proto.ts';

export interface FakeCall {
  readonly method: string;
  readonly request: Record<string, unknown>;
}

export class Refusal extends Error {
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

type Handler = (request: Record<string, string>) => unknown;

export class FakeCsiDriver {
  readonly name = 'fake.example.com';
  readonly calls: FakeCall[] = [];
  /** Called before each call; what it throws is the answer. */
  interfere: (method: string) => void = () => {};
  /** Volumes by id: the nodes they are attached to. */
  readonly volumes = new Map<string, Set<string>>();
  readonly #dir: string;
  readonly #servers: Server[] = [];

  /** `dir` holds the volumes. */
  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true });
  }

  methods(): readonly string[] {
    return this.calls.map(({ method }) => method);
  }

  async startController(socket: string): Promise<void> {
    const rpc = (type: string) => ({ rpc: { type } });
    const capabilities = ['CREATE_DELETE_VOLUME', 'PUBLISH_UNPUBLISH_VOLUME', 'EXPAND_VOLUME'].map(rpc);
    await this.#serve(socket, loadCsi().Controller.service, {
      controllerGetCapabilities: () => ({ capabilities }),
      createVolume: (request) => this.#create(request),
      deleteVolume: ({ volumeId = '' }) => {
        if (this.volumes.get(volumeId)?.size) throw new Refusal(status.FAILED_PRECONDITION, `${volumeId} is attached`);
        this.volumes.delete(volumeId);
        rmSync(join(this.#dir, volumeId), { recursive: true, force: true });
        return {};
      },
      controllerPublishVolume: ({ volumeId = '', nodeId = '' }) => {
        this.volumes.get(volumeId)?.add(nodeId);
        return { publishContext: { lane: '7' } };
      },
      controllerUnpublishVolume: ({ volumeId = '', nodeId = '' }) => {
        this.volumes.get(volumeId)?.delete(nodeId);
        return {};
      },
      controllerExpandVolume: (request) => {
        const { requiredBytes } = request.capacityRange as unknown as { requiredBytes: string };
        return { capacityBytes: requiredBytes, nodeExpansionRequired: true };
      },
    });
  }

  async startNode(socket: string, registrySocket: string, nodeId: string): Promise<void> {
    const capabilities = [{ rpc: { type: 'STAGE_UNSTAGE_VOLUME' } }];
    await this.#serve(socket, loadCsi().Node.service, {
      nodeGetCapabilities: () => ({ capabilities }),
      nodeGetInfo: () => ({ nodeId, accessibleTopology: { segments: { 'kubernetes.io/hostname': nodeId } } }),
      nodeStageVolume: async ({ volumeId = '', stagingTargetPath = '' }) => {
        if (!this.volumes.get(volumeId)?.has(nodeId)) throw new Refusal(status.FAILED_PRECONDITION, 'not attached');
        await bind(join(this.#dir, volumeId), stagingTargetPath);
        return {};
      },
      nodeUnstageVolume: async ({ stagingTargetPath = '' }) => {
        await unmountOnce(stagingTargetPath, { lazy: false });
        return {};
      },
      nodePublishVolume: async ({ stagingTargetPath = '', targetPath = '' }) => {
        if (!mountAt(stagingTargetPath)) throw new Refusal(status.FAILED_PRECONDITION, 'not staged');
        mkdirSync(targetPath, { recursive: true });
        await bind(stagingTargetPath, targetPath);
        return {};
      },
      nodeUnpublishVolume: async ({ targetPath = '' }) => {
        await unmountOnce(targetPath, { lazy: false });
        if (existsSync(targetPath)) rmdirSync(targetPath);
        return {};
      },
      nodeExpandVolume: () => ({}),
    });
    await this.#serve(registrySocket, loadRegistration().Registration.service, {
      getInfo: () => ({ type: 'CSIPlugin', name: this.name, endpoint: socket, supportedVersions: ['1.0.0'] }),
      notifyRegistrationStatus: () => ({}),
    });
  }

  async close(): Promise<void> {
    for (const server of this.#servers) server.forceShutdown();
    this.#servers.length = 0;
  }

  #create(request: Record<string, string>): unknown {
    const { name = '', capacityRange } = request;
    const { requiredBytes } = capacityRange as unknown as { requiredBytes: string };
    const requirements = request.accessibilityRequirements as unknown as { preferred: unknown[] } | null;
    const volumeId = `volume-of-${name}`;
    if (!this.volumes.has(volumeId)) this.volumes.set(volumeId, new Set());
    mkdirSync(join(this.#dir, volumeId), { recursive: true });
    const accessibleTopology = requirements?.preferred.slice(0, 1) ?? [];
    return { volume: { volumeId, capacityBytes: requiredBytes, accessibleTopology, volumeContext: { made: 'here' } } };
  }

  /** What lies in the driver's directory. */
  directories(): readonly string[] {
    return readdirSync(this.#dir);
  }

  async #serve(socket: string, service: Parameters<Server['addService']>[0], handlers: Record<string, Handler>) {
    mkdirSync(dirname(socket), { recursive: true });
    const server = new Server();
    const implementation = Object.entries(handlers).map(([method, handler]) => [method, this.#answer(method, handler)]);
    server.addService(service, Object.fromEntries(implementation));
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
    this.#servers.push(server);
  }

  #answer(method: string, handler: Handler) {
    return async (call: ServerUnaryCall<Record<string, string>, unknown>, done: sendUnaryData<unknown>) => {
      if (method.endsWith('Volume')) this.calls.push({ method, request: call.request });
      try {
        this.interfere(method);
        done(null, await handler(call.request));
      } catch (error) {
        done({
          code: error instanceof Refusal ? error.code : status.INTERNAL,
          details: String((error as Error).message),
        });
      }
    };
  }
}

async function bind(source: string, target: string): Promise<void> {
  if (!mountAt(target)) await bindMount({ source, target, readOnly: false });
}
