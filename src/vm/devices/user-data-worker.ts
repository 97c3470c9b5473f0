import { parentPort, workerData } from 'node:worker_threads';
import { checkUserData } from '#cloudinit';

// The one program of a thread that user-data.ts starts: user data goes in, its problems come out.
parentPort?.postMessage(checkUserData(workerData));
