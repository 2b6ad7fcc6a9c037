/** Server pods run the image of the controller that makes them, whatever tag or registry an overlay gave it. */
import { UnionError } from '../base/errors.ts';
import type { Repository } from '../kubernetes/repository.ts';
import type { Pod } from '../protocol/objects.ts';
import { DRIVER_NAMESPACE } from '../protocol/resources.ts';

/** Of the container `union-csi` in deploy/base/controller. */
const CONTAINER = 'union-csi';

/** `podName` is the pod this process runs in. Throws FAILED_PRECONDITION where it is not one of ours. */
export async function ownImage(
  pods: Pick<Repository<Pod>, 'get'>,
  podName: string,
  signal: AbortSignal,
): Promise<string> {
  const pod = await pods.get({ namespace: DRIVER_NAMESPACE, name: podName }, signal);
  const image = pod?.spec?.containers?.find(({ name }) => name === CONTAINER)?.image;
  if (image !== undefined) return image;
  const place = `pod "${DRIVER_NAMESPACE}/${podName}"`;
  const why = pod ? `${place} has no container "${CONTAINER}"` : `there is no ${place}`;
  throw new UnionError('FAILED_PRECONDITION', `cannot tell the image for server pods: ${why}; give --server-image`);
}
