/** What `kubectl get` prints: columns, pod states, ages, paths of printer columns. */
import { expect } from 'chai';
import { columnsOf } from '../../../../src/embedded/api-server/columns.ts';
import { humanDuration } from '../../../../src/embedded/api-server/human-duration.ts';
import { jsonPath } from '../../../../src/embedded/api-server/json-path.ts';
import { BUILT_IN_KINDS, kindKey } from '../../../../src/embedded/api-server/kinds.ts';
import type { StoredObject } from '../../../../src/embedded/api-server/objects.ts';
import { requestedTable, tableOf } from '../../../../src/embedded/api-server/table.ts';

const NOW = Date.parse('2026-01-02T00:00:00Z');

function object(fields: { metadata?: object; [field: string]: unknown }): StoredObject {
  const metadata = {
    name: 'x',
    uid: 'u',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
    ...fields.metadata,
  };
  return { apiVersion: 'v1', kind: 'X', ...fields, metadata };
}

function cells(key: string, fields: Parameters<typeof object>[0]): { [column: string]: unknown } {
  const info = BUILT_IN_KINDS.find((kind) => kindKey(kind) === key)!;
  const item = object(fields);
  return Object.fromEntries(columnsOf(info).map(({ name, cell }) => [name, cell(item, NOW)]));
}

describe('columns', () => {
  it('of a bound claim', () => {
    const spec = { volumeName: 'pv', storageClassName: 'fast', volumeMode: 'Filesystem' };
    const status = { phase: 'Bound', capacity: { storage: '3Gi' }, accessModes: ['ReadWriteMany', 'ReadWriteOnce'] };
    expect(cells('persistentvolumeclaims', { spec, status })).to.deep.equal({
      Name: 'x',
      Status: 'Bound',
      Volume: 'pv',
      Capacity: '3Gi',
      'Access Modes': 'RWO,RWX',
      StorageClass: 'fast',
      VolumeAttributesClass: '<unset>',
      Age: '24h',
      VolumeMode: 'Filesystem',
    });
  });

  it('of a volume that is going', () => {
    const metadata = { deletionTimestamp: '2026-01-01T00:00:00Z' };
    const spec = { capacity: { storage: '3Gi' }, claimRef: { namespace: 'n', name: 'c' } };
    const row = cells('persistentvolumes', { metadata, spec, status: { phase: 'Released' } });
    expect([row.Status, row.Claim]).to.deep.equal(['Terminating', 'n/c']);
  });

  it('of the default class', () => {
    const metadata = { annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } };
    const row = cells('storageclasses.storage.k8s.io', { metadata, provisioner: 'p' });
    expect([row.Name, row.AllowVolumeExpansion]).to.deep.equal(['x (default)', false]);
  });

  const containers = [{ name: 'a' }, { name: 'b' }];
  const running = { ready: true, restartCount: 0, state: { running: {} } };
  const states: [string, object, { Ready: string; Status: string; Restarts: string }][] = [
    ['pending', { phase: 'Pending' }, { Ready: '0/2', Status: 'Pending', Restarts: '0' }],
    [
      'running',
      { phase: 'Running', containerStatuses: [running, running] },
      { Ready: '2/2', Status: 'Running', Restarts: '0' },
    ],
    [
      'failing again and again',
      {
        phase: 'Running',
        containerStatuses: [
          {
            restartCount: 3,
            state: { waiting: { reason: 'CrashLoopBackOff' } },
            lastState: { terminated: { finishedAt: '2026-01-01T23:55:00Z' } },
          },
          running,
        ],
      },
      { Ready: '1/2', Status: 'CrashLoopBackOff', Restarts: '3 (5m ago)' },
    ],
    [
      'ended with a code',
      { phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode: 3 } } }] },
      { Ready: '0/2', Status: 'ExitCode:3', Restarts: '0' },
    ],
    [
      'ended well',
      { phase: 'Succeeded', containerStatuses: [{ state: { terminated: { exitCode: 0, reason: 'Completed' } } }] },
      { Ready: '0/2', Status: 'Completed', Restarts: '0' },
    ],
  ];
  for (const [what, status, expected] of states)
    it(`of a pod that is ${what}`, () => {
      const { Ready, Status, Restarts } = cells('pods', { spec: { containers }, status });
      expect({ Ready, Status, Restarts }).to.deep.equal(expected);
    });

  it('of custom resources', () => {
    const columns = [
      { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
      { name: 'Since', type: 'date', jsonPath: '.metadata.creationTimestamp' },
    ];
    const info = { ...BUILT_IN_KINDS[0]!, custom: { schema: {}, columns, selectableFields: [] } };
    const table = tableOf(
      info,
      { version: 'v1', include: 'Metadata' },
      { objects: [object({})], metadata: {}, withColumns: true },
      NOW,
    );
    const item = object({});
    expect(table).to.deep.include({
      rows: [
        {
          cells: ['x', null, '24h'],
          object: { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: item.metadata },
        },
      ],
    });
  });
});

describe('requestedTable', () => {
  const old = 'application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json';
  const current = `application/json;as=Table;v=v1;g=meta.k8s.io,${old}`;
  it('follows the order of the client', () => {
    expect(requestedTable(current, null)).to.deep.equal({ version: 'v1', include: 'Metadata' });
    expect(requestedTable(old, 'Object')).to.deep.equal({ version: 'v1beta1', include: 'Object' });
    expect(requestedTable('application/json', null)).to.equal(undefined);
    expect(requestedTable(undefined, null)).to.equal(undefined);
  });
});

describe('humanDuration', () => {
  const cases: [number, string][] = [
    [-500, '0s'],
    [-5000, '<invalid>'],
    [119_000, '119s'],
    [120_000, '2m'],
    [185_000, '3m5s'],
    [3_600_000, '60m'],
    [11_000_000, '3h3m'],
    [100_000_000, '27h'],
    [300_000_000, '3d11h'],
    [3_000_000_000, '34d'],
    [100_000_000_000, '3y62d'],
  ];
  for (const [ms, text] of cases)
    it(`writes ${ms} ms as ${text}`, () => {
      expect(humanDuration(ms)).to.equal(text);
    });
});

describe('jsonPath', () => {
  const value = {
    a: {
      'b.c/d': 1,
      list: [
        { type: 'Ready', status: 'True' },
        { type: 'Other', status: 'False' },
      ],
    },
  };
  const cases: [string, unknown[]][] = [
    ['.a.list[0].type', ['Ready']],
    ['{.a.list[*].status}', ['True', 'False']],
    ['.a.list[?(@.type=="Other")].status', ['False']],
    [".a['b.c/d']", [1]],
    ['.a.b\\.c/d', [1]],
    ['.a.missing.b', []],
    ['.a..b', []],
  ];
  for (const [path, expected] of cases)
    it(`finds ${path}`, () => {
      expect(jsonPath(value, path)).to.deep.equal(expected);
    });
});
