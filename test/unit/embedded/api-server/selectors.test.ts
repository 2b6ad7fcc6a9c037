/** Label and field selectors. */
import { expect } from 'chai';
import { parseFieldSelector, parseLabelSelector } from '../../../../src/embedded/api-server/selectors.ts';
import { fieldValue } from '../../../../src/kubernetes/repository.ts';

describe('parseLabelSelector', () => {
  const labels = { app: 'web', tier: 'front', 'a.b/c': '' };
  const cases: [string, boolean][] = [
    ['', true],
    ['app=web', true],
    ['app==web,tier=front', true],
    ['app=db', false],
    ['app!=db', true],
    ['missing!=x', true],
    ['app in (web, db)', true],
    ['app in (db),tier=front', false],
    ['app notin (db)', true],
    ['missing notin (x)', true],
    ['missing in (x)', false],
    ['tier', true],
    ['!tier', false],
    ['!missing', true],
    ['a.b/c=', true],
  ];
  for (const [text, expected] of cases)
    it(`${expected ? 'matches' : 'does not match'} ${JSON.stringify(text)}`, () => {
      expect(parseLabelSelector(text)({ metadata: { labels } })).to.equal(expected);
    });

  it('refuses what is no selector', () => {
    expect(() => parseLabelSelector('a in b')).to.throw('unable to parse requirement: "a in b"');
  });
});

describe('parseFieldSelector', () => {
  const pod = { metadata: { name: 'a', namespace: 'n' }, spec: { nodeName: 'n1' }, status: { phase: 'Running' } };
  const cases: [string, boolean][] = [
    ['metadata.name=a', true],
    ['metadata.name=b', false],
    ['spec.nodeName=n1,status.phase!=Failed', true],
    ['spec.nodeName=', false],
    ['status.podIP=', true],
  ];
  for (const [text, expected] of cases)
    it(`${expected ? 'matches' : 'does not match'} ${text}`, () => {
      expect(parseFieldSelector(text, 'pods')(pod)).to.equal(expected);
    });

  it('refuses fields that nobody can select by', () => {
    expect(() => parseFieldSelector('spec.foo=1', 'pods')).to.throw('field label not supported: spec.foo');
  });

  it('selects custom resources by the fields that they declare, also by values that need escaping', () => {
    const made = { metadata: { name: 'x', namespace: '' }, spec: { volume: 'a,b=c\\d' } };
    const matches = (text: string) => parseFieldSelector(text, 'things', ['spec.volume'])(made);
    expect(matches(`spec.volume=${fieldValue('a,b=c\\d')}`)).to.equal(true);
    expect(matches('spec.volume=a')).to.equal(false);
  });
});
