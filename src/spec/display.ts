import type { PortSpec } from './net/nic.ts';

/** What shows the guest's screen. */
export interface DisplaySpec {
  /** `none`: there is no screen, and nothing to show. */
  readonly video: 'virtio' | 'std' | 'none';
  readonly vnc?: VncSpec;
}

/** A port of the job that viewers connect to. */
export interface VncPort extends Omit<PortSpec, 'guestPort' | 'groupPort'> {
  /** Where the host's port leads into the network of the group: that network's namespace, and the number there. */
  readonly inGroup?: {
    readonly netns: string;
    readonly port: number;
    /** Every address of the namespace when left out. */
    readonly address?: string;
  };
}

/** A VNC server, on a socket for operators and on these ports. */
export interface VncSpec {
  /** At most 8 bytes, which is all that the protocol uses. */
  readonly password?: string;
  readonly listen: readonly VncPort[];
}
