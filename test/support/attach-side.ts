/**
 * A program for tests: the part of block-node that starts processes of attached volumes (main/attach-side.ts), with the kubelet
 * directory given. It ends as block-node's container does.
 */
import { fileURLToPath } from 'node:url';
import { silentLogger } from '../../src/base/logger.ts';
import { startAttachSide } from '../../src/main/attach-side.ts';

const [, , kubeletDir] = process.argv;
// By which it starts processes.
process.argv[1] = fileURLToPath(new URL('../../src/main/cli.ts', import.meta.url));
const side = startAttachSide({ side: 'node', kubeletDir: kubeletDir!, log: silentLogger });
const goesOn = setInterval(() => {}, 60_000);
process.once('SIGTERM', () => void side.end().then(() => clearInterval(goesOn)));
