// Numbers of the socket calls, the same on x86-64 and arm64.

export const families = { unix: 1, inet: 2, netlink: 16, inet6: 10 } as const;

/** The kind of a socket; the last two are flags that are added to it. */
export const types = {
  stream: 1,
  datagram: 2,
  raw: 3,
  nonBlocking: 0o4000,
  cloexec: 0o2000000,
} as const;

export const protocolIcmp6 = 58;

/** How many connections wait to be accepted. */
export const backlog = 16;
