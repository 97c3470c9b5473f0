import { isPort, macProblem, type NicModel, nicModels, parseIpv4, parseIpv6, quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { type CardWish, type HostForward, type OptionKind, Refusal, type Wish } from './wish.ts';

const instead = 'use "bridge,br=NAME", or `network_interface` of this driver';

const ownTap =
  'the host has no tap for the guest to take: write br=NAME, the bridge that yours is on, and leave script out';

/** The bridge that QEMU takes when none is named. */
const usualBridge = 'br0';

/** Networks and their cards, in the forms of every generation of QEMU. */
export const networkOptions: readonly OptionKind[] = [
  {
    names: ['netdev'],
    value: 'user,id=net0,hostfwd=tcp::2222-:22',
    becomes:
      "The network of the `-device` with this `netdev`. `user`: QEMU's user-mode network; each `hostfwd` forwards a port of the host to the guest, of its protocol only and whatever its address there (without a bridge the answers of a UDP port are dropped); `net`, `host`, `dns`, `dhcpstart`, `hostname` and the like have no effect, because the guest gets the addresses by DHCP; `guestfwd`, `tftp` and `smb` are refused. `bridge,br=NAME`, or `tap`: `network_interface { bridge }`, a managed network or one of `bridges`; without `br` it is `br0`. A tap of the host's own (`ifname` with `script=no`, `fd`) and other types are refused.",
    read: (value) => readNetdev(new OptionText(value, 'type')),
  },
  {
    names: ['nic'],
    value: 'user,model=e1000,hostfwd=tcp::2222-:22',
    becomes: 'A network as in `-netdev`, with its card; `none` is no network.',
    read: readNic,
  },
  {
    names: ['net'],
    value: 'nic,model=virtio',
    becomes:
      '`nic` is a card, `user` or `bridge` the network that it is connected to, `none` no network.',
    read: readNet,
  },
  {
    names: ['redir'],
    value: 'tcp:2222::22',
    becomes: 'As `hostfwd`.',
    read: readRedir,
  },
];

/** Other names that QEMU has for devices which are the same card here. */
const otherNames: Partial<Readonly<Record<NicModel, readonly string[]>>> = {
  virtio: [
    'virtio-net-pci',
    'virtio-net-pci-non-transitional',
    'virtio-net-pci-transitional',
    'virtio-net',
    'virtio-net-device',
  ],
  e1000: ['e1000-82540em'],
};

/** The models of cards, by the drivers of `-device` and the names of `model=`. */
export const cardModels: Readonly<Record<string, NicModel>> = Object.fromEntries(
  nicModels.flatMap((model) => [model, ...(otherNames[model] ?? [])].map((name) => [name, model])),
);

function readNetdev(option: OptionText): readonly Wish[] {
  const type = option.take('type') ?? '';
  const id = option.take('id');
  return [readNetwork(option, type, id)];
}

/** The network itself, of a type that every form of the options has. */
function readNetwork(option: OptionText, type: string, id: string | undefined): Wish {
  if (type === 'user') return { kind: 'netdev', id, forwards: readUser(option) };
  const bridge = option.take('br');
  if (type === 'bridge' || type === 'tap') {
    const script = option.take('script');
    if (bridge === undefined && script === 'no') throw new Refusal(ownTap);
    option.ignore('helper', 'ifname', 'downscript', 'vhost', 'queues', 'sndbuf');
    refuseRest(option);
    const name = bridge ?? usualBridge;
    if (!/^[^\s/]{1,15}$/.test(name)) throw new Refusal(`${quoted(name)} is no bridge's name`);
    return { kind: 'netdev', id, bridge: name, forwards: [] };
  }
  throw new Refusal(`${quoted(type)} is not supported: ${instead}`);
}

function readNic(value: string): readonly Wish[] {
  const option = new OptionText(value, 'type');
  const type = option.take('type') ?? '';
  if (type === 'none') return [{ kind: 'no-network' }];
  const model = readModel(option.take('model'));
  const mac = readMac(option.take('mac') ?? option.take('macaddr'));
  const id = option.take('id');
  return [readNetwork(option, type, id), { kind: 'card', netdev: id, model, ...mac }];
}

function readNet(value: string): readonly Wish[] {
  const option = new OptionText(value, 'type');
  const type = option.take('type') ?? '';
  // The number or name of a hub: there is one network.
  option.ignore('vlan', 'name');
  if (type === 'none') return [{ kind: 'no-network' }];
  if (type !== 'nic') return [readNetwork(option, type, undefined)];
  const netdev = option.take('netdev');
  const model = readModel(option.take('model'));
  const mac = readMac(option.take('macaddr'));
  option.ignore('addr', 'vectors');
  refuseRest(option);
  return [{ kind: 'card', netdev, model, ...mac }];
}

function readUser(option: OptionText): readonly HostForward[] {
  const forwards = option.takeAll('hostfwd').map(readForward);
  // The guest gets its own address and the others by DHCP.
  option.ignore('net', 'host', 'dhcpstart', 'dns', 'ipv6-net', 'ipv6-host', 'ipv6-dns');
  option.ignore('id', 'vlan', 'name', 'hostname', 'domainname', 'ipv4', 'ipv6', 'dnssearch');
  // Stricter than the job asks for would be no harm, looser would be.
  option.ignore('restrict');
  refuseRest(option);
  return forwards;
}

/** `tcp:127.0.0.1:2222-10.0.2.15:22`, in which each address may be left out. There is one guest, so its own is. */
function readForward(text: string): HostForward {
  const form =
    /^(?:(tcp|udp)?:)?(\[[^\]]*\]|[^:]*|[\da-fA-F:.]*:[\da-fA-F:.]*):(\d{1,5})-(?:\[[^\]]*\]|[^:]*):(\d{1,5})$/;
  const [, protocol, address = '', host, guest] = form.exec(text) ?? [];
  const hostIp = address.replace(/^\[(.*)\]$/, '$1');
  const ports = { hostPort: Number(host), guestPort: Number(guest) };
  return checkForward({ hostIp, ...ports, protocol: readProtocol(protocol) }, text);
}

/** The form before `hostfwd`: `tcp:2222::22`. */
function readRedir(text: string): readonly Wish[] {
  const [, protocol, host, guest] = /^(tcp|udp):(\d{1,5}):[\d.]*:(\d{1,5})$/.exec(text) ?? [];
  const ports = { hostPort: Number(host), guestPort: Number(guest) };
  const forward = { hostIp: '', ...ports, protocol: readProtocol(protocol) };
  return [{ kind: 'netdev', id: undefined, forwards: [checkForward(forward, text)] }];
}

/** QEMU's own default is TCP. */
function readProtocol(text: string | undefined): HostForward['protocol'] {
  return text === 'udp' ? 'udp' : 'tcp';
}

function checkForward(forward: HostForward, text: string): HostForward {
  const { hostIp, hostPort, guestPort } = forward;
  if (!isPort(hostPort) || !isPort(guestPort)) {
    const form = '"tcp::2222-:22"';
    throw new Refusal(`${quoted(text)} forwards no port: write it as ${form}`);
  }
  if (hostIp !== '' && parseIpv4(hostIp) === undefined && parseIpv6(hostIp) === undefined) {
    throw new Refusal(`${quoted(hostIp)} is not an address of the host`);
  }
  return hostIp === '0.0.0.0' || hostIp === '::' ? { ...forward, hostIp: '' } : forward;
}

function readModel(text: string | undefined): NicModel | undefined {
  if (text === undefined) return undefined;
  const model = Object.hasOwn(cardModels, text) ? cardModels[text] : undefined;
  if (model !== undefined) return model;
  const known = nicModels.join(', ');
  throw new Refusal(`model=${text} is not supported: use one of ${known}`);
}

/** A card's address, also with dashes. */
export function readMac(text: string | undefined): Pick<CardWish, 'mac'> {
  if (text === undefined) return {};
  const mac = text.toLowerCase().replaceAll('-', ':');
  const problem = macProblem(mac);
  if (problem === undefined) return { mac };
  throw new Refusal(`${quoted(text)} ${problem}`);
}
