/** What `kubectl apply` and `kubectl patch` send for built-in kinds. */
import { expect } from 'chai';
import { applyStrategicPatch } from '../../../../src/embedded/api-server/strategic-patch.ts';

const pod = {
  metadata: { finalizers: ['a', 'b'], labels: { app: 'x' } },
  spec: {
    containers: [
      { name: 'one', image: 'a', env: [{ name: 'K', value: '1' }] },
      { name: 'two', image: 'b' },
    ],
    volumes: [{ name: 'v', emptyDir: {} }],
    tolerations: [{ key: 'k' }],
  },
};

describe('applyStrategicPatch', () => {
  const cases: [string, unknown, (result: typeof pod) => unknown, unknown][] = [
    ['merges maps', { metadata: { labels: { b: 'y' } } }, (r) => r.metadata.labels, { app: 'x', b: 'y' }],
    ['removes with null', { metadata: { labels: { app: null } } }, (r) => r.metadata.labels, {}],
    [
      'merges list items by their key, and adds others',
      { spec: { containers: [{ name: 'two', image: 'c' }, { name: 'three' }] } },
      (r) => r.spec.containers,
      [pod.spec.containers[0], { name: 'two', image: 'c' }, { name: 'three' }],
    ],
    [
      'merges lists within list items',
      { spec: { containers: [{ name: 'one', env: [{ name: 'L', value: '2' }] }] } },
      (r) => r.spec.containers[0]?.env,
      [
        { name: 'K', value: '1' },
        { name: 'L', value: '2' },
      ],
    ],
    [
      'deletes list items',
      { spec: { containers: [{ $patch: 'delete', name: 'one' }] } },
      (r) => r.spec.containers,
      [pod.spec.containers[1]],
    ],
    [
      'replaces a list whole',
      { spec: { containers: [{ $patch: 'replace' }, { name: 'z' }] } },
      (r) => r.spec.containers,
      [{ name: 'z' }],
    ],
    [
      'replaces a map whole',
      { metadata: { labels: { $patch: 'replace', z: '1' } } },
      (r) => r.metadata.labels,
      { z: '1' },
    ],
    ['replaces lists without a merge key', { spec: { tolerations: [] } }, (r) => r.spec.tolerations, []],
    [
      'keeps only the retained keys',
      { spec: { volumes: [{ name: 'v', $retainKeys: ['name', 'hostPath'], hostPath: { path: '/x' } }] } },
      (r) => r.spec.volumes,
      [{ name: 'v', hostPath: { path: '/x' } }],
    ],
    [
      'merges sets of plain values',
      { metadata: { finalizers: ['b', 'c'] } },
      (r) => r.metadata.finalizers,
      ['a', 'b', 'c'],
    ],
    [
      'deletes from sets of plain values',
      { metadata: { '$deleteFromPrimitiveList/finalizers': ['a'] } },
      (r) => r.metadata.finalizers,
      ['b'],
    ],
    [
      'orders list items',
      {
        spec: {
          '$setElementOrder/containers': [{ name: 'two' }, { name: 'new' }, { name: 'one' }],
          containers: [{ name: 'new' }],
        },
      },
      (r) => r.spec.containers.map(({ name }) => name),
      ['two', 'new', 'one'],
    ],
  ];
  for (const [what, patch, part, expected] of cases)
    it(what, () => {
      expect(part(applyStrategicPatch(pod, patch, 'Pod') as typeof pod)).to.deep.equal(expected);
    });

  it('refuses a list item without its merge key', () => {
    const patch = { spec: { containers: [{ image: 'x' }] } };
    expect(() => applyStrategicPatch(pod, patch, 'Pod')).to.throw('does not contain declared merge key: name');
  });

  it('leaves the target alone', () => {
    const before = JSON.stringify(pod);
    applyStrategicPatch(pod, { spec: { containers: [{ name: 'one', image: 'z' }] } }, 'Pod');
    expect(JSON.stringify(pod)).to.equal(before);
  });
});
