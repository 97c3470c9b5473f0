import { parentPort, workerData } from 'node:worker_threads';
import { makeSeedImage } from '#cloudinit';

// The program of a thread that seed-image.ts starts: a request goes in, the disc's bytes and the notes come out.
const image = makeSeedImage(workerData);
parentPort?.postMessage(image, [image.iso.buffer]);
