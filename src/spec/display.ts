import type { PortSpec } from './nic.ts';

/** What shows the guest's screen. */
export interface DisplaySpec {
  /** `none`: there is no screen, and nothing to show. */
  readonly video: 'virtio' | 'std' | 'none';
  readonly vnc?: VncSpec;
}

/** A VNC server, on a socket for operators and on these addresses of the host. */
export interface VncSpec {
  /** At most 8 bytes, which is all that the protocol uses. */
  readonly password?: string;
  readonly listen: readonly Omit<PortSpec, 'guestPort'>[];
}
