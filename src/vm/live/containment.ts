import { HostError, isAlive, type Logger, limitProcess, type ProcessIdentity } from '#host';
import { messageOf } from '../error.ts';
import { longestFile, type QemuLimits } from './limits.ts';

/**
 * The limits of one QEMU, set from outside and for good: it can not raise them itself. The one on the length of files
 * follows those that QEMU appends to: what was passed on of them is a hole, but counts. Takes CAP_SYS_RESOURCE, which
 * root in a container may lack: QEMU keeps the soft limits it was started with then, and files may have any length.
 */
export class Containment {
  readonly #diskBytes: number;
  readonly #log: Logger;
  #identity: ProcessIdentity | undefined;
  #fileBytes = 0;

  /** No disk of the VM is in a file longer than `diskBytes`. */
  constructor(diskBytes: number, log: Logger) {
    this.#diskBytes = diskBytes;
    this.#log = log;
  }

  /** Limits a QEMU whose guest does not run yet. */
  begin(identity: ProcessIdentity, { openFiles, processes }: QemuLimits): void {
    this.#set(identity, { openFiles, processes });
    this.adopt(identity, 0);
  }

  /** Goes on with a QEMU that was limited before, the longest of whose files has this length. */
  adopt(identity: ProcessIdentity, appendedBytes: number): void {
    this.#identity = identity;
    this.#fileBytes = Math.max(this.#fileBytes, longestFile(this.#diskBytes, appendedBytes));
    this.#set(identity, { fileSize: this.#fileBytes });
  }

  /** To be called with the length that a file which QEMU appends to has come to. */
  grown(appendedBytes: number): void {
    const wanted = longestFile(this.#diskBytes, appendedBytes);
    if (wanted <= this.#fileBytes) return;
    this.#fileBytes = wanted;
    if (this.#identity !== undefined) this.#set(this.#identity, { fileSize: wanted });
  }

  #set(identity: ProcessIdentity, limits: Parameters<typeof limitProcess>[1]): void {
    try {
      if (isAlive(identity)) limitProcess(identity.pid, limits);
    } catch (error) {
      // It has ended just now, which is reported elsewhere.
      if (error instanceof HostError && error.errno === 'ESRCH') return;
      this.#log.debug('QEMU runs with fewer limits', { error: messageOf(error) });
    }
  }
}
