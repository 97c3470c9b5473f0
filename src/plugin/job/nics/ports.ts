import { formatIpv6, isPort, listed, type PortSpec, parseIpv6, quoted } from '#spec';
import type { TaskConfig } from '../../gen/driver_pb.ts';
import type { Report } from '../../hcl/problem.ts';

/** Reads a list of port labels, which is found at the path. */
export type ReadPorts = (labels: readonly string[], path: string) => readonly PortSpec[];

/**
 * Finds the ports of labels: several of one label where the node has several addresses. A port goes to one interface. A
 * job may ask for thousands.
 */
export function readerOfPorts({ resources }: TaskConfig, report: Report): ReadPorts {
  const labelled = Map.groupBy(resources?.ports ?? [], ({ label }) => label);
  const known =
    labelled.size === 0 ? 'the group has no ports' : `there are ${listed([...labelled.keys()])}`;
  const lists = new Map<string, string>();
  return (labels, list) =>
    labels.flatMap((label, at) => {
      const path = `${list}[${at}]`;
      const ports = labelled.get(label);
      if (ports === undefined) report(path, `no port is labelled ${quoted(label)}; ${known}`);
      const other = lists.get(label) ?? list;
      if (other !== list) report(path, `the port ${quoted(label)} is in ${other} already`);
      lists.set(label, other);
      return (ports ?? []).map(({ hostIp, value, to }) => {
        // No `to`, or -1: the guest listens on the host's port number.
        const guestPort = to > 0 ? to : value;
        if (!isPort(value) || !isPort(guestPort)) report(path, `${value} to ${to} are not ports`);
        return { label, hostIp: normal(hostIp), hostPort: value, guestPort };
      });
    });
}

/** An IPv6 address in the form of RFC 5952, by which it is compared. */
function normal(hostIp: string): string {
  const six = parseIpv6(hostIp);
  return six === undefined ? hostIp : formatIpv6(six);
}
