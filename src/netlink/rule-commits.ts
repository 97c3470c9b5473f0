import { closeLater, joinGroup, netlinkSocket, receive } from '#host';
import { NetlinkError } from './error.ts';
import { decodeMessages } from './message.ts';
import { newGeneration } from './nftables.ts';

// NETLINK_NETFILTER, and NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const netfilter = 12;
const rulesGroup = 7;
const bufferBytes = 64 * 1024;

/**
 * Transactions of nftables rules in this process's network namespace, from now on: the kernel reports each one as soon as
 * packets meet the new rules. Meanwhile every change of rules costs it a message for each object.
 */
export class RuleCommits implements Disposable {
  readonly #fd: number;
  readonly #ports = new Set<number>();
  #lost = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws NetlinkError. */
  static open(): RuleCommits {
    try {
      const fd = netlinkSocket(netfilter);
      try {
        joinGroup(fd, rulesGroup);
        return new RuleCommits(fd);
      } catch (error) {
        closeLater(fd);
        throw error;
      }
    } catch (cause) {
      throw new NetlinkError('listening for changes of rules failed', { cause });
    }
  }

  /**
   * Whether a transaction of that program is known to be in force. False, too, where a report was lost, and where the
   * program's socket does not have its pid for a number, as the first of a process has (netlink_autobind).
   */
  has(pid: number): boolean {
    if (!this.#lost) this.#read();
    return this.#ports.has(pid);
  }

  #read(): void {
    const into = Buffer.allocUnsafe(bufferBytes);
    try {
      for (;;) {
        const bytes = receive(this.#fd, into);
        if (bytes === undefined) return;
        for (const { type, port } of decodeMessages(into.subarray(0, bytes))) {
          if (type === newGeneration) this.#ports.add(port);
        }
      }
    } catch {
      // More was reported than the socket has room for (ENOBUFS).
      this.#lost = true;
    }
  }

  /** In a thread: such a socket's end waits until no processor uses rules that were replaced (nft_rcv_nl_event). */
  [Symbol.dispose](): void {
    closeLater(this.#fd);
  }
}
