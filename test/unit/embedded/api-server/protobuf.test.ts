/** Objects as current kubectl sends them in protobuf; bytes taken down from `kubectl create`. */
import { expect } from 'chai';
import fc from 'fast-check';
import { decodeProtobuf } from '../../../../src/embedded/api-server/protobuf.ts';
import { StoreError } from '../../../../src/embedded/api-server/store-error.ts';

function field(number: number, content: Buffer | string): Buffer {
  const bytes = Buffer.from(content);
  expect(bytes.length).to.be.lessThan(128);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

function envelope(kind: string, raw: Buffer): Buffer {
  const typeMeta = Buffer.concat([field(1, 'v1'), field(2, kind)]);
  return Buffer.concat([Buffer.from('k8s\0'), field(1, typeMeta), field(2, raw), field(3, ''), field(4, '')]);
}

const metadata = field(
  1,
  Buffer.concat([field(1, 'a'), field(3, ''), field(5, ''), Buffer.from([7 << 3, 0]), field(8, '')]),
);

describe('decodeProtobuf', () => {
  it('reads a config map', () => {
    const entry = Buffer.concat([field(1, 'x'), field(2, 'ä')]);
    const object = decodeProtobuf(
      envelope('ConfigMap', Buffer.concat([metadata, field(2, entry), Buffer.from([4 << 3, 1])])),
    );
    expect(object).to.deep.equal({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'a', namespace: '' },
      data: { x: 'ä' },
      immutable: true,
    });
  });

  it('reads a secret, its values in base64', () => {
    const entry = Buffer.concat([field(1, 'p'), field(2, Buffer.from([0, 255]))]);
    const object = decodeProtobuf(envelope('Secret', Buffer.concat([metadata, field(2, entry), field(3, 'Opaque')])));
    expect(object).to.deep.include({ data: { p: 'AP8=' }, type: 'Opaque' });
  });

  it('reads quantities', () => {
    const entry = Buffer.concat([field(1, 'requests.storage'), field(2, field(1, '5Gi'))]);
    const object = decodeProtobuf(envelope('ResourceQuota', Buffer.concat([metadata, field(2, field(1, entry))])));
    expect(object.spec).to.deep.equal({ hard: { 'requests.storage': '5Gi' } });
  });

  it('refuses kinds that it does not know, and says what to send', () => {
    expect(() => decodeProtobuf(envelope('Pod', metadata))).to.throw('protobuf of kind Pod; send application/json');
  });

  it('takes any bytes, or refuses them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeProtobuf(envelope('ConfigMap', Buffer.from(bytes.subarray(0, 100))));
          decodeProtobuf(Buffer.concat([Buffer.from('k8s\0'), bytes]));
        } catch (error) {
          expect(error).to.be.instanceOf(StoreError);
        }
      }),
    );
  });
});
