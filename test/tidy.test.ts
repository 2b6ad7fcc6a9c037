/**
 * The rules of the house that a machine can hold: which folder may import which, how long files and functions get, what
 * every file and folder of weight explains. Each failure names file, line and rule.
 *
 * Biome does what needs a parser (function length, `any`, enums, focused tests); the rest is read here line by line.
 */
import { execFile } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';

const root = fileURLToPath(new URL('..', import.meta.url));

/** A file imports from its own folder and from folders of lower rank. Everything under fuse/ is one library of rank -1. */
const ranks: Readonly<Record<string, number>> = {
  fuse: -1,
  'src/base': 0,
  'src/protocol': 1,
  'src/union': 2,
  'src/block': 2,
  'src/kubernetes': 3,
  'src/host': 3,
  'src/csi': 4,
  'src/controllers': 4,
  'src/embedded': 4,
  'src/main': 5,
};

/** Read by people first: each has a README.md. */
const foldersOfWeight = ['.', 'fuse', 'src', 'test/posix', 'test/bench'];

const maxFileLines = 400;
const maxLineLength = 240;

interface SourceFile {
  readonly path: string;
  readonly lines: readonly string[];
}

const generated = 'src/protocol/generated';

const sources: readonly SourceFile[] = globSync(['{fuse,src,test,scripts}/**/*.{ts,mjs,c}'], { cwd: root })
  .filter((path) => !path.startsWith(generated))
  .sort()
  .map(readLines);

/** Whatever else is checked in as text: documents, manifests, shell, configuration. */
const documents: readonly SourceFile[] = globSync(
  [
    '*.{md,json}',
    'Dockerfile',
    '.ci/run',
    'bin/*',
    '{fuse,src,test,deploy,examples,scripts}/**/*.{md,yaml,json,sh,proto}',
  ],
  { cwd: root },
).map(readLines);

function readLines(path: string): SourceFile {
  return { path, lines: readFileSync(join(root, path), 'utf8').split('\n') };
}

function folderOf(path: string): string {
  const [top, second] = path.split('/');
  return top === 'src' ? `src/${second}` : top!;
}

/** Every line of the files that breaks a rule, as `file:line: rule`. */
function findings(
  files: readonly SourceFile[],
  rule: (line: string, file: SourceFile) => string | undefined,
): string[] {
  return files.flatMap((file) =>
    file.lines.flatMap((line, index) => {
      const problem = rule(line, file);
      return problem === undefined ? [] : [`${file.path}:${index + 1}: ${problem}`];
    }),
  );
}

function expectNone(problems: readonly string[]): void {
  expect(problems, `\n${problems.join('\n')}\n`).to.have.length(0);
}

const importPattern = /(?:^\s*(?:import|export)\b.*?\bfrom\s+|^\s*import\s+|\bimport\()'([^']+)'/;

/** For imports over several lines: the last of them holds the specifier. */
const importEndPattern = /^\}\s+from\s+'([^']+)'/;

function specifierOf(line: string): string | undefined {
  return (importPattern.exec(line) ?? importEndPattern.exec(line))?.[1];
}

describe('imports', () => {
  it('go from a folder to itself or to one of lower rank', () => {
    const problems = findings(sources, (line, { path }) => {
      const specifier = specifierOf(line);
      const from = folderOf(path);
      if (!specifier?.startsWith('.') || specifier.endsWith('.json') || ranks[from] === undefined) return undefined;
      const to = folderOf(relative(root, resolve(root, dirname(path), specifier)));
      const allowed = to === from || (ranks[to] !== undefined && ranks[to] < ranks[from]);
      return allowed ? undefined : `${from} (rank ${ranks[from]}) imports ${to} (rank ${ranks[to] ?? 'none'})`;
    });
    expectNone(problems);
  });

  it('know a rank for every folder of src/', () => {
    const folders = new Set(sources.map(({ path }) => folderOf(path)).filter((folder) => folder.startsWith('src/')));
    expectNone([...folders].filter((folder) => ranks[folder] === undefined).map((folder) => `${folder}: has no rank`));
  });

  it('reach the filesystem from outside through fuse/index.ts, and fuse/reader-threads.ts which loads nothing else', () => {
    const problems = findings(sources, (line, { path }) => {
      const specifier = specifierOf(line);
      if (!path.startsWith('src/') || !specifier?.includes('/fuse/')) return undefined;
      return /\/fuse\/(index|reader-threads)\.ts$/.test(specifier)
        ? undefined
        : `imports ${specifier} instead of fuse/index.ts`;
    });
    expectNone(problems);
  });

  it('name the file with its ending', () => {
    const problems = findings(sources, (line) => {
      const specifier = specifierOf(line);
      if (!specifier?.startsWith('.')) return undefined;
      return /\.(ts|mjs|json)$/.test(specifier) ? undefined : `import of ${specifier} lacks its ending`;
    });
    expectNone(problems);
  });
});

describe('files', () => {
  it(`stay within ${maxFileLines} lines`, () => {
    const long = sources.filter(({ lines }) => lines.length - 1 > maxFileLines);
    expectNone(
      long.map(({ path, lines }) => `${path}: has ${lines.length - 1} lines, at most ${maxFileLines} are allowed`),
    );
  });

  it('are named in kebab-case', () => {
    const odd = sources.filter(({ path }) => !/^[a-z0-9.-]+$/.test(path.split('/').at(-1)!));
    expectNone(odd.map(({ path }) => `${path}: is not in kebab-case`));
  });

  it('begin with a comment that says what they are for', () => {
    // A unit's tests say it by their place and their `describe`.
    const explained = sources.filter(({ path }) => !/^test\/unit\/.*\.test\.ts$/.test(path));
    const silent = explained.filter(
      ({ lines }) => !/^\/(\*\*?|\/)/.test(lines.find((line) => !line.startsWith('#!')) ?? ''),
    );
    expectNone(silent.map(({ path }) => `${path}: has no header comment`));
  });

  it('hold no notes to come back to', () => {
    const marker = new RegExp(['TO', 'DO|FIX', 'ME|X', 'XX'].join('').replace(/\w+/g, '\\b$&\\b'));
    expectNone(
      findings([...sources, ...documents], (line) =>
        marker.test(line) ? 'is unfinished by its own words' : undefined,
      ),
    );
  });

  it('switch off no check of the compiler', () => {
    const directive = /@ts-(?:ignore|expect-error|nocheck)/;
    const others = sources.filter(({ path }) => path !== 'test/tidy.test.ts');
    expectNone(findings(others, (line) => (directive.test(line) ? 'silences the compiler' : undefined)));
  });

  it('hold no lines that nobody can read', () => {
    expectNone(
      findings(sources, (line) => (line.length > maxLineLength ? `is ${line.length} characters long` : undefined)),
    );
  });

  it('name no place of one machine and no address of a network', () => {
    const place = /(?:^|[\s'"`(=:])\/(?:work|root|home)\/|\/tmp\/[a-z0-9]+\/[a-z0-9]|https?:\/\/registry\./;
    const others = [...sources, ...documents].filter(({ path }) => path !== 'test/tidy.test.ts');
    expectNone(findings(others, (line) => (place.test(line) ? 'names a place on one machine' : undefined)));
  });
});

describe('folders of weight', () => {
  for (const folder of foldersOfWeight) {
    it(`${folder} has a README.md`, () => {
      expect(existsSync(join(root, folder, 'README.md')), `${folder}/README.md is missing`).to.equal(true);
    });
  }
});

describe('the linter', () => {
  it('finds nothing, long functions included', async () => {
    const biome = join(root, 'node_modules/.bin/biome');
    const args = ['lint', '--reporter=github', '--diagnostic-level=warn', '--max-diagnostics=200', '.'];
    const run = await promisify(execFile)(biome, args, { cwd: root, maxBuffer: 1 << 24 }).catch((error) => error);
    const pattern = /^::(?:error|warning) title=([^,]*),file=([^,]*),line=(\d+).*?::(.*)$/gm;
    expectNone(
      [...String(run.stdout).matchAll(pattern)].map(
        ([, rule, file = '', line, message]) => `${relative(root, resolve(root, file))}:${line}: ${message} (${rule})`,
      ),
    );
    expect(run.code ?? 0, String(run.stderr)).to.equal(0);
  });
});
