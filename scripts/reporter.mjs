/**
 * The mocha reporter of `npm test`: dots while it runs, failures in full, then every skipped test with its reason
 * (test/support/skip.ts puts it into the title), and the sum on a line of its own.
 */
import Mocha from 'mocha';

export default class SummaryReporter extends Mocha.reporters.Dot {
  constructor(runner, options) {
    super(runner, options);
    const skipped = [];
    runner.on('pending', (test) => skipped.push(test.fullTitle()));
    runner.once('end', () => {
      if (skipped.length > 0) process.stdout.write(`Skipped:\n${skipped.map((title) => `  ${title}\n`).join('')}\n`);
      const { passes, failures, pending } = this.stats;
      process.stdout.write(`${passes} passed, ${failures} failed, ${pending} skipped\n`);
    });
  }
}
