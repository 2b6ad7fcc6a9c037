/**
 * The mocha reporter of `npm test`: dots while it runs, failures in full, then every skipped test with its reason
 * (test/support/skip.ts puts it into the title), every failed one by name, and the sum on a line of its own.
 */
import Mocha from 'mocha';

export default class SummaryReporter extends Mocha.reporters.Dot {
  constructor(runner, options) {
    super(runner, options);
    const skipped = [];
    const failed = [];
    runner.on('pending', (test) => skipped.push(test.fullTitle()));
    runner.on('fail', (test) => failed.push(test.fullTitle()));
    runner.once('end', () => {
      list('Skipped', skipped);
      list('Failed', failed);
      const { passes, failures, pending } = this.stats;
      process.stdout.write(`${passes} passed, ${failures} failed, ${pending} skipped\n`);
    });
  }
}

function list(heading, titles) {
  if (titles.length > 0) process.stdout.write(`${heading}:\n${titles.map((title) => `  ${title}\n`).join('')}\n`);
}
