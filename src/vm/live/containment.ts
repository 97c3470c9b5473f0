import { HostError, isAlive, type Logger, limitProcess, type ProcessIdentity } from '#host';
import { messageOf } from '../error.ts';
import { maxFileBytes, type QemuLimits } from './limits.ts';

/**
 * The limits of one QEMU, set from outside and permanently: QEMU cannot raise them. The limit on file length grows
 * with the files that QEMU appends to: the part that was forwarded is a hole, but counts. Setting limits needs
 * CAP_SYS_RESOURCE, which root in a container may lack: QEMU then keeps the soft limits of its start, and file length
 * is not limited.
 */
export class Containment {
  #diskBytes: number;
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

  /**
   * Continues with a QEMU that was limited before; `appendedBytes` is the length of the longest file that it appends
   * to.
   */
  adopt(identity: ProcessIdentity, appendedBytes: number): void {
    this.#identity = identity;
    this.#fileBytes = Math.max(this.#fileBytes, maxFileBytes(this.#diskBytes, appendedBytes));
    this.#set(identity, { fileSize: this.#fileBytes });
  }

  /** To be called before a disk grows, with the maximum length of its file from then on. */
  diskGrows(diskBytes: number): void {
    this.#diskBytes = Math.max(this.#diskBytes, diskBytes);
    this.grown(0);
  }

  /** To be called with the current length of a file that QEMU appends to. */
  grown(appendedBytes: number): void {
    const wanted = maxFileBytes(this.#diskBytes, appendedBytes);
    if (wanted <= this.#fileBytes) return;
    this.#fileBytes = wanted;
    if (this.#identity !== undefined) this.#set(this.#identity, { fileSize: wanted });
  }

  #set(identity: ProcessIdentity, limits: Parameters<typeof limitProcess>[1]): void {
    try {
      if (isAlive(identity)) limitProcess(identity.pid, limits);
    } catch (error) {
      // QEMU has just ended, which is reported elsewhere.
      if (error instanceof HostError && error.errno === 'ESRCH') return;
      this.#log.debug('limits of QEMU not set', { error: messageOf(error) });
    }
  }
}
