/** What a client asks before anything else: versions, groups, resources. Pure. */
import { apiVersionOf, type KindInfo } from './kinds.ts';

/** The Kubernetes release whose behaviour is imitated. */
export const VERSION = {
  major: '1',
  minor: '34',
  gitVersion: 'v1.34.0+union-csi',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: '',
  compiler: '',
  platform: `${process.platform}/${process.arch === 'x64' ? 'amd64' : process.arch}`,
};

/** The document at `path`, or undefined when it is none of discovery's. */
export function discoveryDocument(kinds: readonly KindInfo[], path: string): unknown {
  if (path === '/version') return VERSION;
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  if (path === '/apis')
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: groupNames(kinds).map((name) => group(kinds, name)) };
  if (path === '/api/v1') return resources(kinds, 'v1');
  const [, name = '', version, extra] = /^\/apis\/([^/]+)(?:\/([^/]+))?(\/.*)?$/.exec(path) ?? [];
  if (extra || !kinds.some((kind) => kind.group === name && name !== '')) return undefined;
  if (version === undefined) return { kind: 'APIGroup', apiVersion: 'v1', ...group(kinds, name) };
  return kinds.some((kind) => kind.group === name && kind.version === version)
    ? resources(kinds, `${name}/${version}`)
    : undefined;
}

function groupNames(kinds: readonly KindInfo[]): string[] {
  return [...new Set(kinds.map((kind) => kind.group))].filter((name) => name !== '');
}

function group(kinds: readonly KindInfo[], name: string) {
  const names = [...new Set(kinds.filter((kind) => kind.group === name).map((kind) => kind.version))];
  const versions = names.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions, preferredVersion: versions[0] };
}

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

function resources(kinds: readonly KindInfo[], groupVersion: string): unknown {
  const list = kinds
    .filter((kind) => apiVersionOf(kind) === groupVersion)
    .flatMap((kind) => [resource(kind), ...subresources(kind)]);
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources: list };
}

function resource({ plural, singular, namespaced, kind, shortNames, categories }: KindInfo): unknown {
  return {
    name: plural,
    singularName: singular,
    namespaced,
    kind,
    verbs: VERBS,
    ...(shortNames.length > 0 && { shortNames }),
    ...(categories.length > 0 && { categories }),
  };
}

function subresources({ plural, namespaced, kind, hasStatus, group: of }: KindInfo): unknown[] {
  const sub = (name: string, verbs: readonly string[]) => ({
    name: `${plural}/${name}`,
    singularName: '',
    namespaced,
    kind,
    verbs,
  });
  const list = hasStatus ? [sub('status', ['get', 'patch', 'update'])] : [];
  return plural === 'pods' && of === '' ? [...list, sub('log', ['get'])] : list;
}
