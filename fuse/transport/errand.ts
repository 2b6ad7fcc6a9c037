/** A thread that runs errands (errands.ts), one after the other. */
import { parentPort, workerData } from 'node:worker_threads';
import { listIntents } from '../branch/intent.ts';
import { change, look, reopen } from '../branch/probe.ts';
import { State } from '../inode/state.ts';
import { Context } from '../ops/context.ts';
import { DrainPass } from '../ops/drain.ts';
import { DrainProgress, type Remainder } from '../ops/drain-progress.ts';
import { isOnMount, letGo } from '../ops/let-go.ts';
import { relearnBranch } from '../ops/relearn.ts';
import { giveBack } from '../ops/request.ts';
import { clearBranch, retireBranch } from '../ops/retire.ts';
import { errnoName } from '../sys/constants.ts';
import type { Errand, ErrandAnswer, ErrandData, ErrandMessage } from './messages.ts';

const port = parentPort!;
const send = (message: ErrandMessage) => port.postMessage(message);
const { stateFd, thread, config } = workerData as ErrandData;
const state = State.attach(stateFd, thread);
const context = new Context({
  state,
  thread,
  device: -1,
  config,
  log: {
    error: (event, fields = {}) => send({ kind: 'log', level: 'error', event, fields }),
    warn: (event, fields = {}) => send({ kind: 'log', level: 'warn', event, fields }),
  },
});
// Errands are about branches that nobody else may enter.
context.gate.admit();
// What a dead server's errand had counted.
giveBack(context);

port.on('message', (errand: Errand | 'end') => {
  if (errand === 'end') return port.close();
  send({ kind: 'begun' });
  try {
    send({ kind: 'answer', answer: perform(errand) });
  } catch (error) {
    state.releaseOwnLocks();
    throw error;
  }
});

function perform(errand: Errand): ErrandAnswer {
  switch (errand.kind) {
    case 'look': {
      const { index, branch } = errand;
      const result = context.space.refresh(index);
      if (result < 0)
        return {
          finding: { kind: 'failing', message: `${branch.path} does not tell its space: ${errnoName(-result)}` },
        };
      return { finding: look(branch), intents: listIntents([branch]) };
    }
    case 'change':
      return { finding: change(errand.branch) };
    case 'reopen':
      return reopen(errand.branch);
    case 'letGo':
      context.device = errand.device;
      letGo(context, errand.index, isOnMount(errand.mountId));
      return { finding: { kind: 'ok', message: '' } };
    case 'relearn': {
      context.device = errand.device;
      const result = relearnBranch(context, errand.index);
      if (result < 0)
        return {
          finding: { kind: 'failing', message: `${errand.branch.path} cannot be read: ${errnoName(-result)}` },
        };
      return { finding: { kind: 'ok', message: '' } };
    }
    case 'drain':
      context.device = errand.device;
      return { finding: { kind: 'ok', message: '' }, remainder: drain(errand) };
    case 'clear':
      context.device = errand.device;
      return { finding: { kind: 'ok', message: '' }, cleared: clearBranch(context, errand.index, errand) };
  }
}

function drain({ index, renames, progress }: Errand & { kind: 'drain' }): Remainder {
  const pass = new DrainPass(context, index, new DrainProgress(progress));
  const { renumbered } = pass;
  const isRetired = pass.run() && retireBranch(context, { branch: index, renames, renumbered });
  const { left, leftCount, openCount, hiddenCount, hiddenDirectories } = pass;
  return { left, leftCount, openCount, hiddenCount, hiddenDirectories, isRetired };
}
