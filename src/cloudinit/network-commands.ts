import { shellWord } from './env-file.ts';
import { nicName } from './network-config.ts';
import type { SeedNic } from './seed-request.ts';

/**
 * The command that gives a guest with ifupdown its name servers; undefined where the seed has none. cloud-init leaves them to
 * ifupdown as `dns-nameservers`, a line that only the package resolvconf reads. With systemd-resolved, Debian 12's ifupdown
 * (`/etc/network/if-up.d/resolved`) hands over the texts DNS and DOMAINS in the place of their values.
 * In guests without that line, and where /etc/resolv.conf is a link to another program's file, nothing is changed.
 */
export function nameServerCommand(nics: readonly SeedNic[]): string | undefined {
  // Of interfaces that use DHCP its client has them.
  const own = nics.flatMap(({ address, nameservers, searches = [] }, index) =>
    address === undefined || nameservers.length === 0
      ? []
      : [{ name: nicName(index), nameservers, searches }],
  );
  if (own.length === 0) return undefined;
  const servers = [...new Set(own.flatMap(({ nameservers }) => nameservers))];
  const searches = [...new Set(own.flatMap(({ searches }) => searches))];
  // What the hook made of one that uses DHCP, for the same lines are written for it, is no better.
  const names = nics.flatMap(({ nameservers, searches = [] }, index) =>
    nameservers.length + searches.length > 0 ? [nicName(index)] : [],
  );
  return `(${[
    'grep -qs dns-nameservers /etc/network/interfaces /etc/network/interfaces.d/* || exit 0',
    `if [ ! -L /etc/resolv.conf ]; then ${resolvConf(servers, searches)}; fi`,
    `if [ -d /run/systemd/resolve ]; then ${resolved(servers, searches, names)}; fi`,
  ].join('; ')})`;
}

function resolvConf(servers: readonly string[], searches: readonly string[]): string {
  const lines = [
    ...servers.map((server) => `nameserver ${server}`),
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
  ];
  return `printf '%s\\n' ${lines.map(shellWord).join(' ')} >/etc/resolv.conf`;
}

// By a file: systemd-resolved takes no commands as early as this, because D-Bus does not run yet. The state that the hook wrote
// for the interfaces would be read again.
function resolved(
  servers: readonly string[],
  searches: readonly string[],
  nics: readonly string[],
): string {
  const folder = '/run/systemd/resolved.conf.d';
  const lines = ['[Resolve]', `DNS=${servers.join(' ')}`, `Domains=${searches.join(' ')}`];
  return [
    `mkdir -p ${folder}`,
    `printf '%s\\n' ${lines.map(shellWord).join(' ')} >${folder}/nomad.conf`,
    `for nic in ${nics.join(' ')}; do rm -f "/run/systemd/resolve/netif/$(cat /sys/class/net/$nic/ifindex)"; done`,
    'systemctl --no-block try-restart systemd-resolved.service',
  ].join('; ');
}

/**
 * The command by which systemd-networkd asks for addresses with the MAC address, as the other programs do; undefined where no
 * interface asks on a network with other guests. By itself it asks with an identifier made of the machine-id, which VMs of one
 * image may have in common, and then all of them get one address. cloud-init has a key for it with netplan and version 2 alone.
 * In guests without its files nothing is changed.
 */
export function clientIdCommand(nics: readonly SeedNic[]): string | undefined {
  const names = nics.flatMap(({ sharesDhcp }, index) => (sharesDhcp ? [nicName(index)] : []));
  if (names.length === 0) return undefined;
  const files = names.flatMap((name) => [
    `/etc/systemd/network/10-cloud-init-${name}.network`,
    `/run/systemd/network/10-netplan-${name}.network`,
  ]);
  const lines = ['[DHCPv4]', 'ClientIdentifier=mac', '[DHCPv6]', 'DUIDType=link-layer'];
  const each = [
    'd=/etc/systemd/network/$(basename $f).d',
    'if [ ! -f $f ] || [ -e $d/nomad.conf ] || grep -q ^ClientIdentifier= $f; then continue; fi',
    `mkdir -p $d; printf '%s\\n' ${lines.map(shellWord).join(' ')} >$d/nomad.conf; changed=1`,
  ];
  return `(changed=; for f in ${files.join(' ')}; do ${each.join('; ')}; done; [ -z "$changed" ] || (${askAgain}))`;
}

// Everything that needs the network is started after this: without the wait it would find none.
const askAgain = [
  'systemctl try-restart systemd-networkd.service',
  '! cd /lib/systemd || ./systemd-networkd-wait-online --any --timeout=30 || true',
].join('; ');
