/** fuse/SEMANTICS.md names a test for each rule: here it is held that there are such tests, and that no rule is without one. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const root = fileURLToPath(new URL('..', import.meta.url));
const rules = readFileSync(join(root, 'fuse/SEMANTICS.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('- '));

/** The tests that a rule names: `file`: "title". */
function testsOf(rule: string): readonly (readonly [file: string, title: string])[] {
  return [...rule.matchAll(/`(test\/[^`]+\.ts)`: "([^"]+)"/g)].map(([, file, title]) => [file!, title!]);
}

/** Titles of a file's tests as they are written; `…` for what is put in. */
function titlesIn(file: string): ReadonlySet<string> {
  const text = readFileSync(join(root, file), 'utf8');
  const titles = [...text.matchAll(/\b(?:it|law)\(\s*(?:'((?:[^'\\]|\\.)*)'|"([^"]*)"|`([^`]*)`)/g)];
  const plain = titles.map(([, single, double, template]) => single ?? double ?? template!.replace(/\$\{.*?\}/g, '…'));
  return new Set(plain.map((title) => title.replaceAll("\\'", "'")));
}

describe('fuse/SEMANTICS.md', () => {
  it('names a test for every rule', () => {
    expect(rules.filter((rule) => testsOf(rule).length === 0)).to.deep.equal([]);
    expect(rules.length).to.be.greaterThan(40);
  });

  it('names tests that there are', () => {
    const missing = rules
      .flatMap(testsOf)
      .filter(([file, title]) => !existsSync(join(root, file)) || !titlesIn(file).has(title))
      .map(([file, title]) => `${file}: ${title}`);
    expect(missing, `\n${missing.join('\n')}\n`).to.deep.equal([]);
  });
});
