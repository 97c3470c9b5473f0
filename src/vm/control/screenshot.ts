import { constants, fstatSync, read, writeFile } from 'node:fs';
import { promisify } from 'node:util';
import { closeFd, memfd, reopen, within } from '#host';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { notConnected, VmError } from '../error.ts';
import { lendFiles } from '../lent-files.ts';
import type { Screenshot } from '../virtualizer.ts';
import { existsAlready, newFile } from './new-file.ts';

const answerMs = 10_000;
/** 3840 × 2160 pixels as PPM have 25 MB. */
const maxBytes = 64 * 1024 * 1024;

const pngSign = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');

/** What the guest's screen shows. QEMU writes it into a file in memory, which it has no longer than that takes. */
export async function takeScreenshot(
  qmp: QmpClient | undefined,
  waiting: Waiting,
): Promise<Screenshot> {
  if (qmp === undefined) throw notConnected();
  using limited = within(answerMs, waiting);
  using opened = new DisposableStack();
  const file = opened.adopt(memfd('screen', new Uint8Array()), closeFd);
  const written = opened.adopt(reopen(file, constants.O_WRONLY), closeFd);
  const format = await lendFiles([written], qmp, (path) => dump(path, qmp, limited), limited);
  return { format, data: await contentOf(file) };
}

/** Writes it as PNG into a new file, which appears with its whole content or not at all. Throws VmError. */
export async function saveScreenshot(
  path: string,
  { qmp, dataDir }: { readonly qmp: QmpClient; readonly dataDir: string },
  waiting: Waiting,
): Promise<void> {
  using file = await newFile(path, dataDir, waiting);
  const { format, data } = await takeScreenshot(qmp, waiting);
  if (format !== 'png') throw new VmError('host', 'QEMU on this host can not write PNG files');
  // A QEMU that a guest has taken over may write anything.
  if (!pngSign.equals(data.subarray(0, pngSign.length))) {
    throw new VmError('host', 'what QEMU wrote is no PNG file');
  }
  let written = false;
  const fill = async (fd: number): Promise<void> => {
    await promisify(writeFile)(fd, data);
    written = true;
  };
  await file.create(fill, waiting);
  if (!written) throw existsAlready(path);
}

/** As PNG, or as PPM where this QEMU has no PNG. */
async function dump(
  filename: string,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<Screenshot['format']> {
  try {
    await qmp.execute('screendump', { filename, format: 'png' }, waiting);
    return 'png';
  } catch (error) {
    if (!(error instanceof QmpError && error.code === 'command')) throw error;
  }
  try {
    await qmp.execute('screendump', { filename }, waiting);
    return 'ppm';
  } catch (cause) {
    if (!(cause instanceof QmpError && cause.code === 'command')) throw cause;
    const text = `there is no screen to show; has the job a block display { }? (${cause.message})`;
    throw new VmError('host', text, { cause });
  }
}

/** By a thread of its own: as much as it may be would hold up all other work for a tenth of a second. */
async function contentOf(file: number): Promise<Uint8Array> {
  const { size } = fstatSync(file);
  if (size > maxBytes) throw new VmError('host', `QEMU wrote a screenshot of ${size} bytes`);
  const { bytesRead, buffer } = await promisify(read)(file, Buffer.allocUnsafe(size), 0, size, 0);
  return buffer.subarray(0, bytesRead);
}
