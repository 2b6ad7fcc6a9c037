/** The laws of create policies, over arbitrary branches and presence; and each preference on its own. */
import { expect } from 'chai';
import fc from 'fast-check';
import { type CreatePolicyName, createPolicies, createPolicyNames, noBranches } from '../../fuse/policy/create.ts';
import { NO_SPACE, NO_SUCH_PATH, READ_ONLY, worseRefusal } from '../../fuse/policy/errors.ts';
import type { BranchFacts, ParentPresence } from '../../fuse/policy/facts.ts';

interface Scene {
  readonly facts: readonly BranchFacts[];
  readonly presence: ParentPresence;
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
        return { facts, presence: { levels: depth, has }, random: generator(seed) };
      }),
  );

const policyName = fc.constantFrom(...createPolicyNames);

function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function run(
  name: CreatePolicyName,
  { facts, presence, random }: Scene,
  tried: { has(i: number): boolean } = noBranches,
) {
  return createPolicies[name](facts, presence, tried, random);
}

function writable(branch: BranchFacts): boolean {
  return branch.mode === 'RW' && !branch.readOnlyFilesystem && branch.availableBytes >= branch.minFreeSpaceBytes;
}

/** The levels at which a policy may look, in order. */
function levelsOf(name: CreatePolicyName, presence: ParentPresence): readonly number[] {
  if (name.startsWith('ep')) return [0];
  if (name.startsWith('msp')) return Array.from({ length: presence.levels }, (_, level) => level);
  return [presence.levels - 1];
}

/** The branches among which a policy decides: those of the lowest level that has one that will do. */
function candidates(name: CreatePolicyName, { facts, presence }: Scene): readonly BranchFacts[] {
  if (name === 'erofs') return [];
  for (const level of levelsOf(name, presence)) {
    const found = facts.filter((fact) => writable(fact) && presence.has(level, fact.index));
    if (found.length > 0) return found;
  }
  return [];
}

function law(name: string, check: (scene: Scene, policy: CreatePolicyName) => void): void {
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

  const best: Readonly<Record<string, (branch: BranchFacts) => number>> = {
    ff: (branch) => -branch.index,
    mfs: (branch) => branch.availableBytes,
    lfs: (branch) => -branch.availableBytes,
    lus: (branch) => -branch.usedBytes,
    lup: (branch) => -branch.usedBytes / Math.max(branch.totalBytes, 1),
  };
  for (const [preference, score] of Object.entries(best)) {
    for (const name of createPolicyNames.filter((name) => name.replace(/^(ep|msp)/, '') === preference)) {
      it(`${name} chooses the best of its candidates`, () => {
        fc.assert(
          fc.property(scene, (scene) => {
            const result = run(name, scene);
            if (result < 0) return;
            const scores = candidates(name, scene).map(score);
            expect(score(scene.facts[result]!)).to.equal(Math.max(...scores));
          }),
        );
      });
    }
  }
});

describe('create policies with chance', () => {
  const presence: ParentPresence = { levels: 1, has: () => true };

  function shares(name: CreatePolicyName, available: readonly number[]): readonly number[] {
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

  const cases: readonly (readonly [CreatePolicyName, readonly number[], readonly number[]])[] = [
    ['pfrd', [100, 200, 700], [0.1, 0.2, 0.7]],
    ['pfrd', [0, 500, 500], [0, 0.5, 0.5]],
    ['rand', [1, 10, 1000], [1 / 3, 1 / 3, 1 / 3]],
    ['mfs', [500, 100, 500], [0.5, 0, 0.5]],
    ['lfs', [500, 500, 500], [1 / 3, 1 / 3, 1 / 3]],
    ['ff', [1, 1000], [1, 0]],
  ];
  for (const [name, available, expected] of cases) {
    it(`${name} over ${available.join(', ')} available spreads as ${expected.map((x) => x.toFixed(2)).join(', ')}`, () => {
      const found = shares(name, available);
      for (const [index, share] of expected.entries()) expect(found[index]).to.be.closeTo(share, 0.02);
    });
  }
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
