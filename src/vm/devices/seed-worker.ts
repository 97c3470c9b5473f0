import { parentPort, workerData } from 'node:worker_threads';
import { makeSeedImage } from '#cloudinit';

// Runs in a thread that seed-image.ts starts: receives a request, sends the disc's bytes and the notes.
const image = makeSeedImage(workerData);
parentPort?.postMessage(image, [image.iso.buffer]);
