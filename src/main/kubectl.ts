/**
 * `kubectl union`: what people want to know of the unions of a cluster, and change. Reads our resources, and asks server pods
 * through the API server's proxy, so that it needs nothing but the rights of a kubeconfig.
 */
import { parseFlags, suggestion, UsageError } from './flags.ts';
import { addBranch } from './kubectl/add-branch.ts';
import { branches } from './kubectl/branches.ts';
import { type Asked, openCluster } from './kubectl/cluster.ts';
import { df } from './kubectl/df.ts';
import { explain } from './kubectl/explain.ts';
import { status } from './kubectl/status.ts';
import { where } from './kubectl/where.ts';

const HELP = `usage: kubectl union COMMAND [CLAIM] [FLAGS]

Unions of volumes, by the claims that their users know.

  status [CLAIM]          what there is, and how it is doing
  df [CLAIM]              what each branch holds, and how much more it takes
  branches CLAIM          where the branches are: modes, claims, volumes, phases
  where CLAIM PATH…       on which branch a file is; PATH as the application sees it, below its mount
  add-branch CLAIM --class NAME --size SIZE [--mode RW|NC] [--reserve SIZE]
  add-branch CLAIM --claim NAME [--mode RW|RO|NC] [--reserve SIZE]
                          one more branch, a new volume or a claim that exists; mounted when the union's
                          pods are next started
  explain CLAIM           why it is not ready, or what is wrong with it, and what to do

  -n, --namespace NAME    of the claim; default is that of the kubeconfig's context
  -A, --all-namespaces    of status and df
  -o, --output json       the same as JSON; sizes in bytes
      --kubeconfig FILE   default $KUBECONFIG or ~/.kube/config
      --context NAME

What is in use on branches is told by the union's server, so only while some pod uses the union.
`;

type Command = (asked: Asked) => Promise<number>;

const COMMANDS: Readonly<Record<string, Command>> = {
  status,
  df,
  branches,
  where,
  'add-branch': addBranch,
  explain,
};

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(HELP, {
    args: argv,
    allowPositionals: true,
    options: {
      namespace: { type: 'string', short: 'n' },
      'all-namespaces': { type: 'boolean', short: 'A' },
      output: { type: 'string', short: 'o' },
      kubeconfig: { type: 'string' },
      context: { type: 'string' },
      class: { type: 'string' },
      claim: { type: 'string' },
      size: { type: 'string' },
      mode: { type: 'string' },
      reserve: { type: 'string' },
    },
  });
  const [name, ...words] = positionals;
  if (name === undefined || name === 'help') {
    process.stdout.write(HELP);
    return name === 'help' ? 0 : 2;
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    const hint = suggestion(name, Object.keys(COMMANDS)) || '; see --help';
    throw new UsageError(`unknown command ${name}${hint}`);
  }
  if (values.output !== undefined && values.output !== 'json') {
    throw new UsageError(`--output ${values.output} is not known; leave it out, or write json`);
  }
  const { namespace, kubeconfig, context, class: storageClassName, claim, size, mode, reserve } = values;
  const cluster = openCluster({ kubeconfig, context, namespace });
  const { signal } = new AbortController(); // ends with the process
  try {
    return await COMMANDS[name]!({
      ...{ cluster, words, signal, json: values.output === 'json', everywhere: values['all-namespaces'] === true },
      branch: { storageClassName, claim, size, mode, reserve },
    });
  } finally {
    cluster.close();
  }
}
