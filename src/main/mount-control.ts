/** What the server of `union-csi mount` answers on its control socket. It never touches the mount itself. */
import type { Union } from '../../fuse/index.ts';
import { assertNever } from '../base/assert.ts';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { DescriptorServer } from '../host/descriptor-server.ts';
import { prepareControlSocket } from '../host/mount-control.ts';
import { isWithin } from '../host/mountinfo.ts';
import { type MountControlRequest, type MountStatus, parseMountControlRequest } from '../protocol/mount-control.ts';
import type { MountRequest } from './mount-options.ts';
import { policyOptions } from './policy-options.ts';

export interface ControlledMount {
  readonly union: Union;
  readonly request: Pick<MountRequest, 'policies' | 'moveOnNoSpace' | 'cache' | 'readOnly'>;
  readonly mountpoint: string;
  /** `major:minor` of the mount. */
  readonly device: string;
  /** Has another server take over; absent where there is no keeper. */
  readonly upgrade?: () => Promise<void>;
}

/** Listens until it is closed. A machine without a writable /run has the mount all the same: undefined. */
export function serveMountControl(mount: ControlledMount, log: Logger): DescriptorServer | undefined {
  try {
    return new DescriptorServer({
      path: prepareControlSocket(mount.device),
      handle: async ({ message }) => {
        const request = parseMountControlRequest(message);
        if (!request.ok) throw new UnionError('INVALID_ARGUMENT', request.error);
        return { ok: true, ...(await answer(mount, request.value)) };
      },
      log,
    });
  } catch (error) {
    log.warn('no control socket: union-csi status and branch will not reach this mount', { error });
    return undefined;
  }
}

async function answer(
  { union, request, mountpoint, upgrade }: ControlledMount,
  asked: MountControlRequest,
): Promise<object> {
  switch (asked.op) {
    case 'status':
      return await status(union, request, mountpoint);
    case 'upgrade':
      if (upgrade === undefined) {
        const remedy = 'unmount it, and mount it again; with -o keep it can be upgraded next time';
        throw new UnionError('FAILED_PRECONDITION', `${mountpoint} is mounted without a keeper: ${remedy}`);
      }
      await upgrade();
      return {};
    case 'branch.set': {
      const { path, mode, minFreeSpaceBytes } = asked;
      const branch = union.status().branches.find((known) => known.path === path);
      if (branch === undefined) throw new UnionError('NOT_FOUND', `${path} is no branch of ${mountpoint}`);
      union.setBranch(branch.id, {
        mode: mode ?? branch.mode,
        minFreeSpaceBytes: minFreeSpaceBytes ?? branch.minFreeSpaceBytes,
      });
      return {};
    }
    case 'branch.add':
      if (isWithin(asked.path, mountpoint)) {
        throw new UnionError('INVALID_ARGUMENT', `${asked.path} lies inside the union; it would wait for itself`);
      }
      await union.addBranch({ id: asked.path, ...asked });
      return {};
    case 'branch.remove':
      return union.removeBranch(asked.path);
    default:
      return assertNever(asked);
  }
}

async function status(union: Union, request: ControlledMount['request'], mountpoint: string): Promise<MountStatus> {
  await union.refresh();
  const { branches, inodes, openHandles, names, indexBytes, requests, moves, intents } = union.status();
  const { moveOnNoSpace } = request;
  const { lookedUp } = union.measurements();
  return {
    mountpoint,
    pid: process.pid,
    uptimeSeconds: process.uptime(),
    policies: [
      ...policyOptions(request.policies),
      ...(moveOnNoSpace === true ? [] : [`moveonenospc=${moveOnNoSpace}`]),
    ],
    cache: request.cache,
    readOnly: request.readOnly,
    branches,
    operations: requests,
    knownInodes: inodes,
    openHandles,
    indexedNames: names,
    namesAsked: lookedUp.names,
    namesRemembered: lookedUp.remembered,
    namesUnknown: lookedUp.unknown,
    indexBytes,
    movesUnderway: moves.underway,
    filesMoved: moves.done,
    intents,
  };
}
