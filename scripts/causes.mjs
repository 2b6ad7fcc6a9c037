/**
 * With `--parallel` mocha hands an error from a worker to the reporter with its enumerable properties only, and so without its
 * cause, which of a failed property (fast-check) is all there is to know. Here causes become such properties.
 */
export const mochaHooks = {
  afterEach() {
    const error = this.currentTest.err;
    if (error?.cause instanceof Error) Object.defineProperty(error, 'cause', { value: error.cause, enumerable: true });
  },
};
