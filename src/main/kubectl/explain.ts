/** `kubectl union explain`: why a claim is not ready, or what is wrong with it, in one screen. */
import type { KubeObject, Pod } from '../../protocol/objects.ts';
import { LABEL_VOLUME } from '../../protocol/resources.ts';
import {
  type Asked,
  EVENT,
  findUnions,
  PERSISTENT_VOLUME_CLAIM,
  POD,
  print,
  printJson,
  STORAGE_CLASS,
  theClaim,
} from './cluster.ts';
import { explainClaim, formatExplanation } from './explanation.ts';

export async function explain(asked: Asked): Promise<number> {
  const { cluster, signal } = asked;
  const name = theClaim(asked);
  const { namespace } = cluster;
  const [claims, storageClasses, pods, [union], events] = await Promise.all([
    cluster.list(PERSISTENT_VOLUME_CLAIM, undefined, signal),
    cluster.list(STORAGE_CLASS, undefined, signal),
    cluster.list(POD, undefined, signal),
    findUnions(asked, name),
    cluster.list(EVENT, undefined, signal),
  ]);
  const claim = claims.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace);
  if (!claim) throw new Error(`claim "${namespace}/${name}" does not exist; name another, or its namespace with -n`);
  const uses = (pod: Pod) => pod.spec?.volumes?.some((each) => each.persistentVolumeClaim?.claimName === name) === true;
  const volumeName = union?.volume.metadata.name;
  const ofUnion = ({ metadata }: KubeObject) =>
    volumeName !== undefined && metadata.labels?.[LABEL_VOLUME] === volumeName;
  const named = new Set(union?.volume.spec.branches.map((branch) => `${branch.claim.namespace}/${branch.claim.name}`));
  const explanation = explainClaim({
    claim,
    storageClass: storageClasses.find(({ metadata }) => metadata.name === claim.spec?.storageClassName),
    union,
    lowerClaims: claims.filter(({ metadata }) => named.has(`${metadata.namespace}/${metadata.name}`)),
    servers: pods.filter(ofUnion),
    users: pods.filter((pod) => pod.metadata.namespace === namespace && uses(pod)),
    warnings: events.filter(({ type }) => type === 'Warning'),
  });
  if (asked.json) printJson(explanation);
  else print(formatExplanation(`${namespace}/${name}`, explanation));
  return explanation.isHealthy ? 0 : 1;
}
