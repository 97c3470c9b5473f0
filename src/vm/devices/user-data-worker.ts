import { parentPort, workerData } from 'node:worker_threads';
import { checkUserData } from '#cloudinit';

// Runs in a thread that user-data.ts starts: receives user data, sends its problems.
parentPort?.postMessage(checkUserData(workerData));
