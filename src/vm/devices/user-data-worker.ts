import { parentPort, workerData } from 'node:worker_threads';
import { checkSeedText } from '#cloudinit';

// Runs in a thread that user-data.ts starts: receives a text, sends its problems.
parentPort?.postMessage(checkSeedText(workerData));
