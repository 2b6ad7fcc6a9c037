/** The tests by name as they run, for they take long; what failed at once, and the sum on a line of its own at the end. */
import Mocha from 'mocha';

export default class LongReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.on('fail', (_test, error) => process.stdout.write(`       ${error.message}\n`));
    runner.once('end', () => {
      const { passes, failures, pending } = this.stats;
      process.stdout.write(`${passes} passed, ${failures} failed, ${pending} skipped\n`);
    });
  }
}
