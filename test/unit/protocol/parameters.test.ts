/** Parameters and branch lists: what they mean, and the message of each thing that can be wrong with them. */
import { expect } from 'chai';
import { policyNames } from '../../../fuse/policy/create.ts';
import { POLICY_NAMES, parseBranchesAnnotation, parseParameters } from '../../../src/protocol/parameters.ts';

function parsed(parameters: Record<string, string>) {
  const result = parseParameters(parameters);
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

function refusal(parameters: Record<string, string>): string {
  const result = parseParameters(parameters);
  if (result.ok) throw new Error('was not refused');
  return result.error;
}

const short = { lowerStorageClassName: 'fast', branches: '3' };

describe('parseParameters', () => {
  it('reads the short form with its defaults', () => {
    expect(parsed(short)).to.deep.equal({
      branches: [{ kind: 'template', storageClassName: 'fast', count: 3, size: { kind: 'rest' }, mode: 'RW' }],
      branchNamespace: 'driver',
      policies: { create: 'mspmfs', action: 'epall', search: 'ff' },
      expandStrategy: 'grow',
    });
  });

  it('reads the long form', () => {
    const branchTemplates = `
- {storageClassName: fast, size: 20%, minFreeSpace: 1Gi}
- storageClassName: slow
  count: 2
  size: 40%
  mode: NC`;
    expect(parsed({ branchTemplates }).branches).to.deep.equal([
      {
        kind: 'template',
        storageClassName: 'fast',
        count: 1,
        size: { kind: 'percent', basisPoints: 2000n },
        mode: 'RW',
        minFreeSpaceBytes: 1024n ** 3n,
      },
      {
        kind: 'template',
        storageClassName: 'slow',
        count: 2,
        size: { kind: 'percent', basisPoints: 4000n },
        mode: 'NC',
      },
    ]);
  });

  it('reads policies, reserve, strategy, namespace and the claim of the sidecar', () => {
    const value = parsed({
      ...short,
      createPolicy: 'mfs',
      minFreeSpace: '512Mi',
      expandStrategy: 'add-branch',
      branchNamespace: 'claim',
      'csi.storage.k8s.io/pvc/name': 'files',
      'csi.storage.k8s.io/pvc/namespace': 'shop',
      'csi.storage.k8s.io/pv/name': 'pvc-1',
      'csi.storage.k8s.io/fstype': 'ext4',
    });
    expect(value.policies.create).to.equal('mfs');
    expect(value.minFreeSpaceBytes).to.equal(512n * 1024n * 1024n);
    expect(value.expandStrategy).to.equal('add-branch');
    expect(value.branchNamespace).to.equal('claim');
    expect(value.claim).to.deep.equal({ namespace: 'shop', name: 'files' });
  });

  it('leaves the branches to the annotation when the class has none', () => {
    expect(parsed({}).branches).to.deep.equal([]);
  });

  it('knows the policies that the filesystem has', () => {
    expect([...POLICY_NAMES].sort()).to.deep.equal([...policyNames].sort());
  });

  const bad: readonly [what: string, parameters: Record<string, string>, message: string][] = [
    [
      'a misspelt parameter',
      { ...short, creatPolicy: 'mfs' },
      'unknown parameter "creatPolicy"; did you mean "createPolicy"?',
    ],
    [
      'a parameter like none',
      { ...short, zzzzzz: '1' },
      'unknown parameter "zzzzzz"; known are lowerStorageClassName, branches, branchTemplates, branchNamespace, ' +
        'createPolicy, actionPolicy, searchPolicy, minFreeSpace, expandStrategy',
    ],
    [
      'a misspelt policy',
      { ...short, createPolicy: 'mspmf' },
      'parameter createPolicy "mspmf" is unknown; did you mean "mspmfs"?',
    ],
    [
      'an action policy that would do nothing',
      { ...short, actionPolicy: 'epff' },
      'parameter actionPolicy "epff" is unknown; use all, epall, erofs',
    ],
    [
      'an unknown strategy',
      { ...short, expandStrategy: 'gro' },
      'parameter expandStrategy "gro" is unknown; did you mean "grow"?',
    ],
    [
      'an unknown namespace',
      { ...short, branchNamespace: 'elsewhere' },
      'parameter branchNamespace "elsewhere" is unknown; use driver, claim',
    ],
    ['no branches', { ...short, branches: '0' }, 'parameter branches is 0; a union needs at least 1 branch'],
    ['negative branches', { ...short, branches: '-1' }, 'parameter branches is -1; a union needs at least 1 branch'],
    ['65 branches', { ...short, branches: '65' }, 'parameter branches is 65; a union has at most 64 branches'],
    [
      'a number that is none',
      { ...short, branches: '3.5' },
      'parameter branches "3.5" is not a whole number; use 1 to 64',
    ],
    [
      'branches without a class',
      { branches: '3' },
      'parameter lowerStorageClassName is missing; name the storage class of the branches',
    ],
    [
      'a class without branches',
      { lowerStorageClassName: 'fast' },
      'parameter branches is missing; say how many volumes of class "fast" to join',
    ],
    [
      'an empty class',
      { lowerStorageClassName: '', branches: '2' },
      'parameter lowerStorageClassName is empty; name a storage class',
    ],
    [
      'both forms',
      { ...short, branchTemplates: '- {storageClassName: fast}' },
      'parameters lowerStorageClassName and branchTemplates exclude each other; use one of the two forms',
    ],
    [
      'a reserve that does not parse',
      { ...short, minFreeSpace: 'lots' },
      'parameter minFreeSpace: "lots" is not a size; write bytes or a number with a unit, such as 10Gi',
    ],
  ];
  for (const [what, parameters, message] of bad) {
    it(`refuses ${what}`, () => expect(refusal(parameters)).to.equal(message));
  }

  const badLists: readonly [what: string, list: string, message: string][] = [
    ['a syntax error, with its place', '- {storageClassName: fast\n- count: 2', 'line 2, column 1: '],
    ['a tab for indentation, with its place', '- storageClassName: fast\n\tcount: 2', 'line 2, column 2: '],
    ['something else than a list', 'storageClassName: fast', 'must be a list; start each branch with "- "'],
    ['an empty list', '[]', 'is empty; a union needs at least 1 branch'],
    [
      'an item that is no map',
      '- fast',
      'line 1, column 3: a branch must be a map such as {storageClassName: fast, count: 2}',
    ],
    [
      'a misspelt key',
      '- {storageClasName: fast}',
      'line 1, column 3: unknown key "storageClasName"; did you mean "storageClassName"?',
    ],
    [
      'a name that is none',
      '- {storageClassName: "Fast!"}',
      'line 1, column 3: storageClassName "Fast!" is not a name of a storage class',
    ],
    ['no class', '- {count: 2}', 'line 1, column 3: storageClassName "" is not a name of a storage class'],
    [
      'a count of zero',
      '- {storageClassName: fast, count: 0}',
      'line 1, column 3: count is 0; a union needs at least 1 branch',
    ],
    [
      'too many in all',
      '- {storageClassName: a, count: 40}\n- {storageClassName: b, count: 25}',
      'has 65 branches in all; a union has at most 64',
    ],
    [
      'a size that does not parse',
      '- {storageClassName: fast, size: 5 elephants}',
      'line 1, column 3: size "5 elephants" is not a size;',
    ],
    [
      'a size below the minimum',
      '- {storageClassName: fast, size: 1Mi}',
      'line 1, column 3: size 1Mi is smaller than the smallest branch, 16.0 MiB; raise it',
    ],
    [
      'a negative size',
      '- {storageClassName: fast, size: -5Gi}',
      'line 1, column 3: size "-5Gi" is negative; a size must be positive',
    ],
    ['0%', '- {storageClassName: fast, size: 0%}', 'line 1, column 3: size 0% must be above 0% and at most 100%'],
    [
      'shares below 100%',
      '- {storageClassName: a, size: 30%}\n- {storageClassName: b, count: 2, size: 30%}',
      'sizes add up to 90%, not 100%',
    ],
    [
      'shares above 100%',
      '- {storageClassName: a, size: 80%}\n- {storageClassName: b, size: 30%}',
      'sizes add up to 110%',
    ],
    [
      'mode RO of a new branch',
      '- {storageClassName: fast, mode: RO}',
      'line 1, column 3: mode RO makes no sense for a new, empty branch; use RW or NC',
    ],
    [
      'an unknown mode',
      '- {storageClassName: fast, mode: rw}',
      'line 1, column 3: mode "rw" is unknown; use RW, RO (read only) or NC (no new files)',
    ],
    [
      'an adopted claim',
      '- {claim: data}',
      'line 1, column 3: "claim" adopts a claim, which only the annotation on the upper claim can do',
    ],
  ];
  for (const [what, branchTemplates, message] of badLists) {
    it(`refuses a list with ${what}`, () =>
      expect(refusal({ branchTemplates })).to.satisfy((text: string) =>
        text.startsWith(`parameter branchTemplates: ${message}`),
      ));
  }
});

describe('parseBranchesAnnotation', () => {
  it('reads adopted claims beside new branches', () => {
    const items = parseBranchesAnnotation(
      '- {claim: old, mode: RO, shared: true}\n- {claim: data, grow: true}\n- {storageClassName: fast}',
    );
    expect(items).to.deep.equal({
      ok: true,
      value: [
        { kind: 'claim', claim: 'old', mode: 'RO', grow: false, shared: true },
        { kind: 'claim', claim: 'data', mode: 'RW', grow: true, shared: false },
        { kind: 'template', storageClassName: 'fast', count: 1, size: { kind: 'rest' }, mode: 'RW' },
      ],
    });
  });

  const bad: readonly [what: string, list: string, message: string][] = [
    [
      'a claim of another namespace',
      '- claim: other/data',
      'line 1, column 3: claim "other/data" is in another namespace; only claims of the upper claim\'s own namespace can be adopted',
    ],
    ['a claim twice', '- claim: data\n- claim: data', 'claim "data" is listed twice; a claim can be one branch only'],
    [
      'a size for a claim',
      '- {claim: data, size: 5Gi}',
      'line 1, column 3: "size" belongs to new branches and "claim" to existing ones',
    ],
    [
      'grow that is no boolean',
      '- {claim: data, grow: yes please}',
      'line 1, column 3: grow "yes please" must be true or false',
    ],
    [
      'neither claim nor class',
      '- {mode: RW}',
      'line 1, column 3: a branch needs "claim" (an existing claim) or "storageClassName" (a new one)',
    ],
    ['a misspelt key', '- {clam: data}', 'line 1, column 3: unknown key "clam"; did you mean "claim"?'],
  ];
  for (const [what, list, message] of bad) {
    it(`refuses ${what}`, () => {
      const result = parseBranchesAnnotation(list);
      expect(result.ok ? 'was not refused' : result.error).to.satisfy((text: string) =>
        text.startsWith(`annotation union.csi.dev/branches: ${message}`),
      );
    });
  }
});
