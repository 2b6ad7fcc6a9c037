/** Live steps for a person: a spinner on a terminal, plain lines elsewhere. Everything goes to stdout. */
import { performance } from 'node:perf_hooks';

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const FRAME_MS = 80;

export class Progress {
  readonly #out: NodeJS.WriteStream;

  constructor(out: NodeJS.WriteStream = process.stdout) {
    this.#out = out;
  }

  /** Shows `title` while `work` runs, then how long it took and what it answered with `detail`. */
  async step<T>(title: string, work: () => Promise<T>, detail: (result: T) => string = () => ''): Promise<T> {
    const started = performance.now();
    const stop = this.#out.isTTY ? this.#spin(title) : () => {};
    try {
      const result = await work();
      stop();
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      this.line(`  ✓ ${title.padEnd(52)} ${seconds.padStart(5)} s  ${detail(result)}`.trimEnd());
      return result;
    } catch (error) {
      stop();
      this.line(`  ✗ ${title}`);
      throw error;
    }
  }

  line(text = ''): void {
    this.#out.write(`${text}\n`);
  }

  #spin(title: string): () => void {
    let frame = 0;
    const draw = () => this.#out.write(`\r  ${FRAMES[frame++ % FRAMES.length]} ${title}`);
    draw();
    const timer = setInterval(draw, FRAME_MS);
    return () => {
      clearInterval(timer);
      this.#out.write('\r\x1b[K');
    };
  }
}

/** Columns as wide as their widest cell; numbers (cells that begin with a digit) to the right. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (/^\d/.test(cell) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('   ')
      .trimEnd(),
  );
}
