/** RFC 6902 and RFC 6901. */
import { expect } from 'chai';
import fc from 'fast-check';
import { applyJsonPatch } from '../../../../src/embedded/api-server/json-patch.ts';
import { isObject } from '../../../../src/embedded/api-server/objects.ts';

const documents = fc.jsonValue().map((value): unknown => JSON.parse(JSON.stringify(value)));

/** Every pointer into a document. */
function pointers(value: unknown, prefix = ''): string[] {
  const entries = Array.isArray(value)
    ? value.map((item, index) => [String(index), item] as const)
    : isObject(value)
      ? Object.entries(value)
      : [];
  const escaped = (key: string) => key.replaceAll('~', '~0').replaceAll('/', '~1');
  return [prefix, ...entries.flatMap(([key, item]) => pointers(item, `${prefix}/${escaped(key)}`))];
}

describe('applyJsonPatch', () => {
  const examples: [string, unknown, unknown[], unknown][] = [
    ['adds a field', { foo: 'bar' }, [{ op: 'add', path: '/baz', value: 'qux' }], { baz: 'qux', foo: 'bar' }],
    ['inserts into a list', { a: [1, 3] }, [{ op: 'add', path: '/a/1', value: 2 }], { a: [1, 2, 3] }],
    ['appends to a list', { a: [1] }, [{ op: 'add', path: '/a/-', value: [2] }], { a: [1, [2]] }],
    ['removes a field', { a: 1, b: 2 }, [{ op: 'remove', path: '/a' }], { b: 2 }],
    ['removes from a list', { a: [1, 2, 3] }, [{ op: 'remove', path: '/a/1' }], { a: [1, 3] }],
    ['replaces', { a: 1 }, [{ op: 'replace', path: '/a', value: null }], { a: null }],
    ['replaces the whole', { a: 1 }, [{ op: 'replace', path: '', value: [] }], []],
    ['moves', { a: { b: 1 }, c: {} }, [{ op: 'move', from: '/a/b', path: '/c/d' }], { a: {}, c: { d: 1 } }],
    ['moves within a list', { a: [1, 2, 3] }, [{ op: 'move', from: '/a/0', path: '/a/2' }], { a: [2, 3, 1] }],
    ['copies', { a: [1] }, [{ op: 'copy', from: '/a', path: '/b' }], { a: [1], b: [1] }],
    ['tests', { '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: 10 }], { '/': 9, '~1': 10 }],
  ];
  for (const [what, document, patch, result] of examples)
    it(what, () => {
      expect(applyJsonPatch(document, patch)).to.deep.equal(result);
    });

  const refusals: [string, unknown, unknown, string][] = [
    ['a failed test', { a: 1 }, [{ op: 'test', path: '/a', value: '1' }], 'testing value /a failed'],
    ['a missing parent', {}, [{ op: 'add', path: '/a/b', value: 1 }], '/a/b does not exist'],
    ['removal of nothing', {}, [{ op: 'remove', path: '/a' }], '/a does not exist'],
    ['replacement of nothing', {}, [{ op: 'replace', path: '/a', value: 1 }], '/a does not exist'],
    ['an index beyond the end', { a: [] }, [{ op: 'add', path: '/a/1', value: 1 }], '/a/1 is out of bounds'],
    ['an index with zeros before it', { a: [1, 2] }, [{ op: 'remove', path: '/a/01' }], '/a/01 does not exist'],
    ['a move into itself', { a: {} }, [{ op: 'move', from: '/a', path: '/a/b' }], 'into itself'],
    ['an unknown operation', {}, [{ op: 'merge', path: '' }], 'unknown operation "merge"'],
    ['what is no list', {}, { op: 'add' }, 'a JSON patch is a list of operations'],
    ['an inherited field', {}, [{ op: 'remove', path: '/toString' }], '/toString does not exist'],
  ];
  for (const [what, document, patch, message] of refusals)
    it(`refuses ${what}`, () => {
      expect(() => applyJsonPatch(document, patch)).to.throw(message);
    });

  it('does all operations or none, and leaves the document alone', () => {
    const document = { a: 1 };
    const patch = [
      { op: 'replace', path: '/a', value: 2 },
      { op: 'remove', path: '/missing' },
    ];
    expect(() => applyJsonPatch(document, patch)).to.throw('operation 1');
    expect(document).to.deep.equal({ a: 1 });
  });

  it('undoes itself: what is removed anywhere can be added there again', () => {
    fc.assert(
      fc.property(documents, fc.nat(), (document, seed) => {
        const places = pointers(document).slice(1);
        fc.pre(places.length > 0);
        const path = places[seed % places.length]!;
        const copy = [{ op: 'copy', from: path, path: '' }];
        const value = applyJsonPatch(document, copy);
        const removed = applyJsonPatch(document, [{ op: 'remove', path }]);
        expect(applyJsonPatch(removed, [{ op: 'add', path, value }])).to.deep.equal(document);
        expect(applyJsonPatch(document, [{ op: 'test', path, value }])).to.deep.equal(document);
      }),
    );
  });
});
