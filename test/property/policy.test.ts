/** The laws of policies, over arbitrary branches and presence; each preference on its own; and the filters in their order. */
import { expect } from 'chai';
import fc from 'fast-check';
import { noBranches } from '../../fuse/policy/choose.ts';
import { createPolicies, isForEvery, type PolicyName, policyNames } from '../../fuse/policy/create.ts';
import { NO_SPACE, NO_SUCH_PATH, READ_ONLY, worseRefusal } from '../../fuse/policy/errors.ts';
import type { BranchFacts, Presence } from '../../fuse/policy/facts.ts';
import { isFirstFound, searchPolicy } from '../../fuse/policy/search.ts';

interface Scene {
  readonly facts: readonly BranchFacts[];
  readonly presence: Presence;
  readonly random: () => number;
}

const bytes = fc.oneof(fc.nat(4), fc.maxSafeNat());

const branch = fc.record({
  mode: fc.constantFrom('RW' as const, 'RW' as const, 'RO' as const, 'NC' as const),
  readOnlyFilesystem: fc.nat(3).map((n) => n === 0),
  availableBytes: bytes,
  usedBytes: bytes,
  totalBytes: bytes,
  minFreeSpaceBytes: fc.oneof(fc.constant(0), bytes),
});

/** Levels from the parent up; the last is the root, which all branches have. */
const scene: fc.Arbitrary<Scene> = fc
  .record({ branches: fc.array(branch, { maxLength: 8 }), depth: fc.integer({ min: 1, max: 4 }), seed: fc.integer() })
  .chain(({ branches, depth, seed }) =>
    fc
      .array(fc.array(fc.boolean(), { minLength: branches.length, maxLength: branches.length }), {
        minLength: depth - 1,
        maxLength: depth - 1,
      })
      .map((below) => {
        // A directory is on a branch only when the directories above it are.
        const has = (level: number, index: number): boolean => below.slice(level).every((row) => row[index]!);
        const facts = branches.map((fields, index) => ({ index, ...fields }));
        const modifiedAt = (index: number) => branches[index]!.usedBytes % 7;
        return { facts, presence: { levels: depth, has, modifiedAt }, random: generator(seed) };
      }),
  );

const policyName = fc.constantFrom(...policyNames);

function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function run(name: PolicyName, { facts, presence, random }: Scene, tried: { has(i: number): boolean } = noBranches) {
  return createPolicies[name](facts, presence, tried, random);
}

function writable(branch: BranchFacts): boolean {
  return branch.mode === 'RW' && !branch.readOnlyFilesystem && branch.availableBytes >= branch.minFreeSpaceBytes;
}

/** The levels at which a policy may look, in order. */
function levelsOf(name: PolicyName, presence: Presence): readonly number[] {
  if (name.startsWith('ep') || name === 'newest') return [0];
  if (name.startsWith('msp')) return Array.from({ length: presence.levels }, (_, level) => level);
  return [presence.levels - 1];
}

/** The branches among which a policy decides: those of the lowest level that has one that will do. */
function candidates(name: PolicyName, { facts, presence }: Scene): readonly BranchFacts[] {
  if (name === 'erofs') return [];
  for (const level of levelsOf(name, presence)) {
    const found = facts.filter((fact) => writable(fact) && presence.has(level, fact.index));
    if (found.length > 0) return found;
  }
  return [];
}

function law(name: string, check: (scene: Scene, policy: PolicyName) => void): void {
  it(name, () => {
    fc.assert(fc.property(scene, policyName, check), { numRuns: 1000 });
  });
}

describe('create policies', () => {
  law('choose a candidate exactly when there is one', (scene, name) => {
    const result = run(name, scene);
    const expected = candidates(name, scene).map((candidate) => candidate.index);
    if (expected.length === 0) expect(result).to.be.oneOf([NO_SPACE, READ_ONLY, NO_SUCH_PATH]);
    else expect(expected).to.include(result);
  });

  law('return ENOSPC when a full branch was the nearest to being chosen, then EROFS, then ENOENT', (scene, name) => {
    const result = run(name, scene);
    if (result >= 0 || name === 'erofs') return;
    const refusals = levelsOf(name, scene.presence).flatMap((level) =>
      scene.facts.map((fact) => {
        if (fact.mode !== 'RW') return READ_ONLY;
        if (!scene.presence.has(level, fact.index)) return NO_SUCH_PATH;
        return fact.readOnlyFilesystem ? READ_ONLY : NO_SPACE;
      }),
    );
    const expected = [NO_SPACE, READ_ONLY].find((refusal) => refusals.includes(refusal as never)) ?? NO_SUCH_PATH;
    expect(result).to.equal(expected);
  });

  law('walk through every candidate once and end in ENOSPC as branches turn out full', (scene, name) => {
    const tried = new Set<number>();
    const ordered: number[] = [];
    for (let result = run(name, scene, tried); result >= 0; result = run(name, scene, tried)) {
      expect(tried.has(result)).to.equal(false);
      tried.add(result);
      ordered.push(result);
    }
    const level = levelsOf(name, scene.presence).at(-1)!;
    const all = scene.facts.filter((fact) => writable(fact) && scene.presence.has(level, fact.index));
    expect(ordered.length).to.equal(name === 'erofs' ? 0 : all.length);
    if (ordered.length > 0) expect(run(name, scene, tried)).to.equal(NO_SPACE);
  });

  law('decide the same with the same generator', ({ facts, presence }, name) => {
    const choose = () => run(name, { facts, presence, random: generator(7) });
    expect(choose()).to.equal(choose());
  });

  const best: Readonly<Record<string, (branch: BranchFacts, presence: Presence) => number>> = {
    ff: (branch) => -branch.index,
    all: (branch) => -branch.index,
    newest: (branch, presence) => presence.modifiedAt(branch.index),
    mfs: (branch) => branch.availableBytes,
    lfs: (branch) => -branch.availableBytes,
    lus: (branch) => -branch.usedBytes,
    lup: (branch) => -branch.usedBytes / Math.max(branch.totalBytes, 1),
  };
  for (const [preference, score] of Object.entries(best)) {
    for (const name of policyNames.filter((name) => name.replace(/^(ep|msp)/, '') === preference)) {
      it(`${name} chooses the best of its candidates`, () => {
        fc.assert(
          fc.property(scene, (scene) => {
            const result = run(name, scene);
            if (result < 0) return;
            const scores = candidates(name, scene).map((branch) => score(branch, scene.presence));
            expect(score(scene.facts[result]!, scene.presence)).to.equal(Math.max(...scores));
          }),
        );
      });
    }
  }
});

describe('create policies with chance', () => {
  const presence: Presence = { levels: 1, has: () => true, modifiedAt: (index) => (index < 2 ? 8 : 9) };

  function shares(name: PolicyName, available: readonly number[]): readonly number[] {
    const facts = available.map((availableBytes, index) => ({
      index,
      mode: 'RW' as const,
      readOnlyFilesystem: false,
      availableBytes,
      usedBytes: 0,
      totalBytes: 1000,
      minFreeSpaceBytes: 0,
    }));
    const random = generator(1);
    const counts = available.map(() => 0);
    const rounds = 20_000;
    for (let round = 0; round < rounds; round++) counts[run(name, { facts, presence, random })]!++;
    return counts.map((count) => count / rounds);
  }

  const cases: readonly (readonly [PolicyName, readonly number[], readonly number[]])[] = [
    ['pfrd', [100, 200, 700], [0.1, 0.2, 0.7]],
    ['pfrd', [0, 500, 500], [0, 0.5, 0.5]],
    ['rand', [1, 10, 1000], [1 / 3, 1 / 3, 1 / 3]],
    ['mfs', [500, 100, 500], [0.5, 0, 0.5]],
    ['lfs', [500, 500, 500], [1 / 3, 1 / 3, 1 / 3]],
    ['ff', [1, 1000], [1, 0]],
    ['newest', [1, 10, 100, 1000], [0, 0, 0.5, 0.5]],
  ];
  for (const [name, available, expected] of cases) {
    it(`${name} over ${available.join(', ')} available spreads as ${expected.map((x) => x.toFixed(2)).join(', ')}`, () => {
      const found = shares(name, available);
      for (const [index, share] of expected.entries()) expect(found[index]).to.be.closeTo(share, 0.02);
    });
  }
});

describe('filters of create policies', () => {
  const branch: BranchFacts = {
    index: 0,
    mode: 'RW',
    readOnlyFilesystem: false,
    availableBytes: 10,
    usedBytes: 0,
    totalBytes: 10,
    minFreeSpaceBytes: 10,
  };
  /** Each wrong in one way, and in all that come behind it. */
  const full = { ...branch, availableBytes: 9 };
  const readOnly = { ...full, readOnlyFilesystem: true };
  const cases: readonly (readonly [string, BranchFacts, boolean, number, number])[] = [
    ['takes a branch at its reserve', branch, true, 0, 0],
    ['ENOSPC below the reserve', full, true, NO_SPACE, NO_SPACE],
    ['EROFS of the filesystem before ENOSPC', readOnly, true, READ_ONLY, READ_ONLY],
    ['ENOENT of a missing path before EROFS of the filesystem', readOnly, false, READ_ONLY, NO_SUCH_PATH],
    ['EROFS of the mode RO before all others', { ...readOnly, mode: 'RO' }, false, READ_ONLY, READ_ONLY],
    ['EROFS of the mode NC before all others', { ...readOnly, mode: 'NC' }, false, READ_ONLY, READ_ONLY],
  ];
  for (const [title, facts, hasPath, anywhere, preserving] of cases) {
    it(`pass in their order: ${title}`, () => {
      const presence = { levels: 1, has: () => hasPath, modifiedAt: () => 0 };
      for (const name of policyNames.filter((name) => name !== 'erofs')) {
        const expected = /^(ep|msp|newest)/.test(name) ? preserving : anywhere;
        expect(
          createPolicies[name]([facts], presence, noBranches, () => 0),
          name,
        ).to.equal(expected);
      }
    });
  }
});

describe('policy names', () => {
  it('are those of the table, in every category', () => {
    const table = `ff mfs lfs lus lup pfrd rand newest all epff epall eplfs eplus epmfs eppfrd eprand
      msplfs msplus mspmfs msppfrd erofs`;
    expect([...policyNames].sort()).to.deep.equal(table.split(/\s+/).sort());
  });

  it('make directories on every branch where they say all', () => {
    expect(policyNames.filter(isForEvery).sort()).to.deep.equal(['all', 'epall']);
  });
});

describe('search policies', () => {
  const search = (name: PolicyName, { facts, presence, random }: Scene) => searchPolicy(name)(facts, presence, random);
  const having = ({ facts, presence }: Scene) => facts.filter((fact) => presence.has(0, fact.index));

  law('choose a branch that has it, of whatever mode and however full, else ENOENT', (scene, name) => {
    const result = search(name, scene);
    const expected = having(scene).map((fact) => fact.index);
    if (name === 'erofs') expect(result).to.equal(READ_ONLY);
    else if (expected.length === 0) expect(result).to.equal(NO_SUCH_PATH);
    else expect(expected).to.include(result);
  });

  law('all choose the one copy where there is one', ({ facts, random }, name) => {
    if (name === 'erofs' || facts.length === 0) return;
    const only = facts.length - 1;
    const presence = { levels: 1, has: (_level: number, index: number) => index === only, modifiedAt: () => 0 };
    expect(search(name, { facts, presence, random })).to.equal(only);
  });

  const best: Readonly<Record<string, (branch: BranchFacts, presence: Presence) => number>> = {
    ff: (branch) => -branch.index,
    all: (branch) => -branch.index,
    mfs: (branch) => branch.availableBytes,
    lfs: (branch) => -branch.availableBytes,
    lus: (branch) => -branch.usedBytes,
    lup: (branch) => -branch.usedBytes / Math.max(branch.totalBytes, 1),
    newest: (branch, presence) => presence.modifiedAt(branch.index),
  };
  for (const name of policyNames) {
    const score = best[name.replace(/^(ep|msp)/, '')];
    if (score === undefined) continue;
    it(`${name} chooses the best of the copies`, () => {
      fc.assert(
        fc.property(scene, (scene) => {
          const result = search(name, scene);
          if (result < 0) return;
          const scores = having(scene).map((branch) => score(branch, scene.presence));
          expect(score(scene.facts[result]!, scene.presence)).to.equal(Math.max(...scores));
        }),
      );
    });
  }

  law('are the first copy where they are said to be', (scene, name) => {
    if (isFirstFound(name)) expect(search(name, scene)).to.equal(having(scene)[0]?.index ?? NO_SUCH_PATH);
  });
});

describe('worseRefusal', () => {
  it('ranks ENOSPC before EROFS before ENOENT, whatever the order', () => {
    const ranked = [NO_SPACE, READ_ONLY, NO_SUCH_PATH];
    for (const [i, better] of ranked.entries()) {
      for (const other of ranked.slice(i)) {
        expect(worseRefusal(better, other)).to.equal(better);
        expect(worseRefusal(other, better)).to.equal(better);
      }
    }
  });
});
