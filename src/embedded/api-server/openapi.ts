/**
 * OpenAPI as far as clients cannot do without it. Version 3: which kinds can be patched, and, for custom resources, their
 * schemas and that the server checks fields (`fieldValidation`). Version 2, which old clients fetch in protobuf: a
 * document without definitions, which tells them to validate nothing themselves. Schemas of built-in kinds: none. Pure.
 */
import { apiVersionOf, type KindInfo } from './kinds.ts';

/** `/openapi/v3`. */
export function openApiIndex(kinds: readonly KindInfo[]): unknown {
  const paths = [...new Set(kinds.map(groupPath))].map((path) => [path, { serverRelativeURL: `/openapi/v3/${path}` }]);
  return { paths: Object.fromEntries(paths) };
}

function groupPath(info: KindInfo): string {
  return info.group ? `apis/${info.group}/${info.version}` : `api/${info.version}`;
}

/** `/openapi/v3/<path>`; undefined when no kind is served there. */
export function openApiDocument(kinds: readonly KindInfo[], path: string): unknown {
  const members = kinds.filter((info) => groupPath(info) === path);
  if (members.length === 0) return undefined;
  const schemas = members.filter((info) => info.custom).map((info) => [schemaName(info), schemaOf(info)]);
  return {
    openapi: '3.0.0',
    info: { title: 'Union CSI embedded cluster', version: apiVersionOf(members[0]!) },
    paths: Object.fromEntries(members.map((info) => [pathOf(info), { patch: patchOperation(info) }])),
    components: { schemas: Object.fromEntries(schemas) },
  };
}

function pathOf(info: KindInfo): string {
  const namespace = info.namespaced ? '/namespaces/{namespace}' : '';
  return `/${groupPath(info)}${namespace}/${info.plural}/{name}`;
}

function typeOf(info: KindInfo) {
  return { group: info.group, version: info.version, kind: info.kind };
}

function patchOperation(info: KindInfo): unknown {
  const parameter = (name: string) => ({ name, in: 'query', schema: { type: 'string', uniqueItems: true } });
  return {
    parameters: ['dryRun', ...(info.custom ? ['fieldValidation'] : [])].map(parameter),
    responses: { 200: { description: 'OK' } },
    'x-kubernetes-action': 'patch',
    'x-kubernetes-group-version-kind': typeOf(info),
  };
}

function schemaName(info: KindInfo): string {
  return `${info.group.split('.').toReversed().join('.')}.${info.version}.${info.kind}`;
}

function schemaOf(info: KindInfo): unknown {
  return { ...info.custom?.schema, 'x-kubernetes-group-version-kind': [typeOf(info)] };
}

const INFO = { title: 'Union CSI embedded cluster', version: 'v1' };

/** `/openapi/v2` as JSON. */
export const OPENAPI_V2 = { swagger: '2.0', info: INFO, paths: {} };

/** The same as gnostic's openapi.v2.Document in protobuf: swagger = 1, info = 2 {title = 1, version = 2}, paths = 8. */
export function openApiV2Protobuf(): Buffer {
  const field = (number: number, content: Buffer) =>
    Buffer.concat([Buffer.from([(number << 3) | 2, content.length]), content]);
  const info = Buffer.concat([field(1, Buffer.from(INFO.title)), field(2, Buffer.from(INFO.version))]);
  return Buffer.concat([field(1, Buffer.from('2.0')), field(2, info), field(8, Buffer.alloc(0))]);
}
