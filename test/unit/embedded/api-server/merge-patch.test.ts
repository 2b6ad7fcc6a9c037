/** RFC 7396: its own examples, and laws that hold for any documents. */
import { expect } from 'chai';
import fc from 'fast-check';
import { applyMergePatch } from '../../../../src/embedded/api-server/merge-patch.ts';
import { isObject, jsonEqual } from '../../../../src/embedded/api-server/objects.ts';

/** The patch that makes `to` of `from`, where `to` holds no null within objects. */
function difference(from: unknown, to: unknown): unknown {
  if (!isObject(from) || !isObject(to)) return to;
  const patch: { [key: string]: unknown } = Object.create(null);
  for (const key of Object.keys(from)) if (!Object.hasOwn(to, key)) patch[key] = null;
  for (const [key, value] of Object.entries(to))
    if (!Object.hasOwn(from, key) || !jsonEqual(from[key], value))
      patch[key] = Object.hasOwn(from, key) ? difference(from[key], value) : value;
  return patch;
}

function hasNull(value: unknown): boolean {
  return value === null || (typeof value === 'object' && Object.values(value).some(hasNull));
}

const documents = fc.jsonValue().map((value): unknown => JSON.parse(JSON.stringify(value)));

describe('applyMergePatch', () => {
  const examples: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [['a', 'b'], ['c'], ['c']],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, result] of examples)
    it(`makes ${JSON.stringify(result)} of ${JSON.stringify(target)} with ${JSON.stringify(patch)}`, () => {
      expect(applyMergePatch(target, patch)).to.deep.equal(result);
    });

  it('reaches any document that has no null from any other', () => {
    fc.assert(
      fc.property(documents, documents, (from, to) => {
        fc.pre(!hasNull(to) && !hasNull(from));
        expect(jsonEqual(applyMergePatch(from, difference(from, to)), to)).to.equal(true);
      }),
    );
  });

  it('changes nothing when applied twice, and never its arguments', () => {
    fc.assert(
      fc.property(documents, documents, (target, patch) => {
        const before = JSON.stringify([target, patch]);
        const once = applyMergePatch(target, patch);
        expect(applyMergePatch(once, patch)).to.deep.equal(once);
        expect(JSON.stringify([target, patch])).to.equal(before);
      }),
    );
  });
});
