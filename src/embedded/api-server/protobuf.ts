/**
 * The few objects that current kubectl sends as protobuf and not as JSON: those of `kubectl create namespace|configmap|
 * secret|serviceaccount|quota`. Decoding only; answers are JSON, which every client takes. Pure.
 * Source: runtime.Unknown, and generated.proto of k8s.io/api/core/v1 and apimachinery/pkg/apis/meta/v1.
 */
import { StoreError } from './store-error.ts';

export const PROTOBUF_MEDIA_TYPE = 'application/vnd.kubernetes.protobuf';

type FieldType = 'text' | 'base64' | 'boolean' | 'texts' | 'textMap' | 'base64Map' | 'quantityMap' | Message;
interface Message {
  readonly [fieldNumber: number]: readonly [name: string, type: FieldType];
}

const METADATA: Message = {
  1: ['name', 'text'],
  2: ['generateName', 'text'],
  3: ['namespace', 'text'],
  11: ['labels', 'textMap'],
  12: ['annotations', 'textMap'],
  14: ['finalizers', 'texts'],
};

const KINDS: { readonly [kind: string]: Message } = {
  Namespace: { 1: ['metadata', METADATA] },
  ServiceAccount: { 1: ['metadata', METADATA] },
  ConfigMap: {
    1: ['metadata', METADATA],
    2: ['data', 'textMap'],
    3: ['binaryData', 'base64Map'],
    4: ['immutable', 'boolean'],
  },
  Secret: {
    1: ['metadata', METADATA],
    2: ['data', 'base64Map'],
    3: ['type', 'text'],
    4: ['stringData', 'textMap'],
    5: ['immutable', 'boolean'],
  },
  ResourceQuota: { 1: ['metadata', METADATA], 2: ['spec', { 1: ['hard', 'quantityMap'], 2: ['scopes', 'texts'] }] },
};

const UNKNOWN: Message = { 1: ['typeMeta', { 1: ['apiVersion', 'text'], 2: ['kind', 'text'] }], 2: ['raw', 'base64'] };

const MAGIC = Buffer.from('k8s\0');

type Fields = { [name: string]: unknown };

/** The object in an envelope of PROTOBUF_MEDIA_TYPE; 415 for kinds that are not in the table. */
export function decodeProtobuf(body: Buffer): Fields {
  if (!body.subarray(0, MAGIC.length).equals(MAGIC)) throw unsupported('without the mark of a Kubernetes object');
  const envelope = decodeMessage(body.subarray(MAGIC.length), UNKNOWN);
  const typeMeta = envelope.typeMeta as Fields | undefined;
  const message = KINDS[String(typeMeta?.kind)];
  if (typeMeta?.apiVersion !== 'v1' || !message) throw unsupported(`of kind ${typeMeta?.kind}`);
  return { ...typeMeta, ...decodeMessage(Buffer.from(String(envelope.raw ?? ''), 'base64'), message) };
}

function unsupported(what: string): StoreError {
  const message = `the body of the request is protobuf ${what}; send application/json`;
  return new StoreError(415, 'UnsupportedMediaType', message);
}

function decodeMessage(bytes: Buffer, message: Message): Fields {
  const result: Fields = {};
  for (const { number, value } of fieldsOf(bytes)) {
    const [name, type] = message[number] ?? [];
    if (name === undefined || type === undefined) continue;
    result[name] = decodeField(type, value, result[name]);
  }
  return result;
}

function decodeField(type: FieldType, value: Buffer | number, earlier: unknown): unknown {
  if (type === 'boolean') return value === 1;
  if (typeof value === 'number') throw unsupported('with a number in the place of a message');
  if (type === 'text') return value.toString('utf8');
  if (type === 'base64') return value.toString('base64');
  if (type === 'texts') return [...(Array.isArray(earlier) ? earlier : []), value.toString('utf8')];
  if (typeof type === 'object') return decodeMessage(value, type);
  const entry = decodeMessage(value, { 1: ['key', 'text'], 2: ['value', MAP_VALUES[type]] });
  const content = type === 'quantityMap' ? (entry.value as Fields | undefined)?.text : entry.value;
  return { ...(earlier as Fields | undefined), [String(entry.key ?? '')]: content ?? '' };
}

const MAP_VALUES: { readonly [type in 'textMap' | 'base64Map' | 'quantityMap']: FieldType } = {
  textMap: 'text',
  base64Map: 'base64',
  quantityMap: { 1: ['text', 'text'] },
};

/** Wire format: varints and length-delimited fields; fixed-width ones are skipped. */
function* fieldsOf(bytes: Buffer): Generator<{ number: number; value: Buffer | number }> {
  let offset = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[offset++];
      if (byte === undefined) throw unsupported('that ends too early');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (offset < bytes.length) {
    const tag = varint();
    const number = Math.trunc(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        offset += 8;
        break;
      case 2: {
        const length = varint();
        if (offset + length > bytes.length) throw unsupported('that ends too early');
        yield { number, value: bytes.subarray(offset, offset + length) };
        offset += length;
        break;
      }
      case 5:
        offset += 4;
        break;
      default:
        throw unsupported('of an unknown wire type');
    }
  }
}
