/** Policies from the command line: what categories and functions come to, and what is said of wrong ones. */
import { expect } from 'chai';
import { policyNames } from '../../../fuse/policy/create.ts';
import { policyFunctions } from '../../../fuse/policy/functions.ts';
import { UsageError } from '../../../src/main/flags.ts';
import { checkPolicies, FUNCTIONS, policiesOf, policyOptions } from '../../../src/main/policy-options.ts';

const of = (text: string) =>
  policiesOf(text.split(',').map((item) => item.split('=') as [name: string, policy: string]));

describe('policiesOf', () => {
  it('has the defaults of mergerfs', () => {
    expect(policiesOf([])).to.deep.equal({ create: 'pfrd', action: 'epall', search: 'ff', functions: {} });
  });

  it('takes categories, the last one counting', () => {
    expect(of('category.create=ff,category.search=newest,category.create=mfs')).to.deep.equal({
      create: 'mfs',
      action: 'epall',
      search: 'newest',
      functions: {},
    });
  });

  it('takes single functions behind their category, and forgets those before it', () => {
    expect(of('category.create=mfs,func.mkdir=all').functions).to.deep.equal({ mkdir: 'all' });
    expect(of('func.mkdir=all,func.chmod=erofs,category.create=mfs').functions).to.deep.equal({ chmod: 'erofs' });
    expect(of('func.create=pfrd,func.mkdir=ff').functions).to.deep.equal({ mkdir: 'ff' });
  });

  it('knows the functions that the filesystem has', () => {
    expect(FUNCTIONS).to.deep.equal(policyFunctions);
  });

  const refused: readonly (readonly [string, string])[] = [
    ['func.readdir=cosr', 'func.readdir is an option of mergerfs alone; leave it out: listings come from memory'],
    ['func.crate=mfs', 'unknown option func.crate; did you mean func.create?'],
    ['category.creat=mfs', 'unknown option category.creat; did you mean category.create?'],
    ['func.constructor=mfs', 'unknown option func.constructor; see --help'],
  ];
  for (const [options, message] of refused) {
    it(`refuses ${options}: ${message}`, () => {
      expect(() => of(options))
        .to.throw(UsageError)
        .with.property('message', message);
    });
  }
});

describe('checkPolicies', () => {
  it('refuses an unknown policy, and names its option and the nearest', () => {
    expect(() => checkPolicies(of('category.search=epmfss'), policyNames))
      .to.throw(UsageError)
      .with.property('message', 'unknown policy category.search=epmfss; did you mean epmfs?');
    expect(() => checkPolicies(of('func.mkdir=al'), policyNames)).to.throw(
      'unknown policy func.mkdir=al; did you mean all?',
    );
    checkPolicies(of('category.create=mspmfs,func.mkdir=newest'), policyNames);
  });
});

describe('policyOptions', () => {
  it('tells the create policy, and whatever else is not the default', () => {
    expect(policyOptions(policiesOf([]))).to.deep.equal(['category.create=pfrd']);
    expect(policyOptions(of('category.create=mfs,func.mkdir=all,category.search=newest'))).to.deep.equal([
      'category.create=mfs',
      'category.search=newest',
      'func.mkdir=all',
    ]);
  });
});
