/** Structural schemas of custom resources. */
import { expect } from 'chai';
import { pruned, schemaErrors, withDefaults } from '../../../../src/embedded/api-server/schema.ts';

const schema = {
  type: 'object',
  required: ['spec'],
  properties: {
    spec: {
      type: 'object',
      required: ['size'],
      properties: {
        size: { type: 'string', pattern: '^[0-9]+$', maxLength: 5 },
        mode: { type: 'string', enum: ['RW', 'RO'], default: 'RW' },
        count: { type: 'integer', minimum: 1, maximum: 3 },
        port: { 'x-kubernetes-int-or-string': true },
        note: { type: 'string', nullable: true },
        tags: { type: 'array', maxItems: 2, items: { type: 'string' }, 'x-kubernetes-list-type': 'set' },
        items: {
          type: 'array',
          'x-kubernetes-list-type': 'map',
          'x-kubernetes-list-map-keys': ['id'],
          items: {
            type: 'object',
            required: ['id'],
            properties: { id: { type: 'string' }, on: { type: 'boolean', default: true } },
          },
        },
        labels: { type: 'object', additionalProperties: { type: 'string' } },
        raw: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      },
    },
  },
};

describe('schemaErrors', () => {
  const cases: [string, unknown, string[]][] = [
    [
      'accepts what fits',
      { size: '5', count: 3, port: 'http', note: null, tags: ['a', 'b'], items: [{ id: 'x' }] },
      [],
    ],
    ['misses required fields', {}, ['spec.size: Required value']],
    [
      'checks types',
      { size: 5 },
      ['spec.size: Invalid value: "integer": spec.size in body must be of type string: "integer"'],
    ],
    ['checks enums', { size: '1', mode: 'X' }, ['spec.mode: Unsupported value: "X": supported values: "RW", "RO"']],
    ['checks patterns', { size: 'x' }, [`spec.size: Invalid value: "x": spec.size in body should match '^[0-9]+$'`]],
    ['checks lengths', { size: '123456' }, ['spec.size: Too long: may not be more than 5 bytes']],
    [
      'checks limits',
      { size: '1', count: 4 },
      ['spec.count: Invalid value: 4: spec.count in body should be less than or equal to 3'],
    ],
    [
      'refuses fractions as integers',
      { size: '1', count: 1.5 },
      ['spec.count: Invalid value: "number": spec.count in body must be of type integer: "number"'],
    ],
    ['counts items', { size: '1', tags: ['a', 'b', 'c'] }, ['spec.tags: Too many: 3: must have at most 2 items']],
    ['refuses doubles in sets', { size: '1', tags: ['a', 'a'] }, ['spec.tags[1]: Duplicate value: "a"']],
    [
      'refuses doubles in list maps',
      { size: '1', items: [{ id: 'a' }, { id: 'a' }] },
      ['spec.items[1]: Duplicate value: {"id":"a"}'],
    ],
    ['checks items', { size: '1', items: [{}] }, ['spec.items[0].id: Required value']],
    [
      'checks values of maps',
      { size: '1', labels: { a: 1 } },
      ['spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"'],
    ],
    [
      'refuses null where it is not allowed',
      { size: null },
      ['spec.size: Invalid value: "null": spec.size in body must be of type string: "null"'],
    ],
  ];
  for (const [what, spec, expected] of cases)
    it(what, () => {
      const errors = schemaErrors(schema, { spec });
      expect(errors.map(({ field, message }) => `${field}: ${message}`)).to.deep.equal(expected);
    });
});

describe('withDefaults', () => {
  it('fills in at every depth, and nothing that is there', () => {
    const value = { spec: { size: '1', mode: 'RO', items: [{ id: 'a' }, { id: 'b', on: false }] } };
    expect(withDefaults(schema, value)).to.deep.equal({
      spec: {
        size: '1',
        mode: 'RO',
        items: [
          { id: 'a', on: true },
          { id: 'b', on: false },
        ],
      },
    });
    expect(withDefaults(schema, { spec: { mode: null } })).to.deep.equal({ spec: { mode: 'RW' } });
  });
});

describe('pruned', () => {
  it('drops and names unknown fields, and keeps what may be unknown', () => {
    const unknown: string[] = [];
    const value = {
      apiVersion: 'v1',
      metadata: { name: 'x' },
      extra: 1,
      spec: { size: '1', foo: 2, raw: { any: 1 }, items: [{ id: 'a', bar: 1 }] },
    };
    expect(pruned(schema, value, '', unknown)).to.deep.equal({
      apiVersion: 'v1',
      metadata: { name: 'x' },
      spec: { size: '1', raw: { any: 1 }, items: [{ id: 'a' }] },
    });
    expect(unknown).to.deep.equal(['extra', 'spec.foo', 'spec.items[0].bar']);
  });
});
