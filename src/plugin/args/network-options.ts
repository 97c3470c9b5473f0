import { type NicModel, parseIpv4, quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { type CardWish, type HostForward, type OptionKind, Refusal, type Wish } from './wish.ts';

const bridge = 'use `network_interface { bridge }` of this driver';

/** Networks and their cards, in the forms of every generation of QEMU. */
export const networkOptions: readonly OptionKind[] = [
  {
    names: ['netdev'],
    value: 'user,id=net0,hostfwd=tcp::2222-:22',
    becomes:
      "The network of the `-device` with this `netdev`: QEMU's user-mode network. Each `hostfwd` forwards a port of the host to the guest. `tap`, `bridge` and other kinds are refused for `network_interface { bridge }`; so are `guestfwd`, `tftp`, `smb` and other addresses than QEMU's usual ones.",
    read: (value) => readNetdev(new OptionText(value, 'type')),
  },
  {
    names: ['nic'],
    value: 'user,model=e1000,hostfwd=tcp::2222-:22',
    becomes: 'A user-mode network with its card; `none` is no network.',
    read: readNic,
  },
  {
    names: ['net'],
    value: 'nic,model=virtio',
    becomes: '`nic` is a card, `user` the network that it is connected to, `none` no network.',
    read: readNet,
  },
  {
    names: ['redir'],
    value: 'tcp:2222::22',
    becomes: 'As `hostfwd`.',
    read: readRedir,
  },
];

/** The models of cards, by the drivers of `-device` and the names of `model=`. */
export const cardModels: Readonly<Record<string, NicModel>> = {
  'virtio-net-pci': 'virtio',
  'virtio-net-pci-non-transitional': 'virtio',
  'virtio-net-pci-transitional': 'virtio',
  'virtio-net': 'virtio',
  'virtio-net-device': 'virtio',
  virtio: 'virtio',
  e1000: 'e1000',
  'e1000-82540em': 'e1000',
  e1000e: 'e1000e',
  rtl8139: 'rtl8139',
  vmxnet3: 'vmxnet3',
};

function readNetdev(option: OptionText): readonly Wish[] {
  const type = option.take('type') ?? '';
  const id = option.take('id');
  if (type !== 'user') throw new Refusal(`${quoted(type)} is not supported: ${bridge}`);
  return [{ kind: 'netdev', id, forwards: readUser(option) }];
}

function readNic(value: string): readonly Wish[] {
  const option = new OptionText(value, 'type');
  const type = option.take('type') ?? '';
  if (type === 'none') return [{ kind: 'no-network' }];
  if (type !== 'user') throw new Refusal(`${quoted(type)} is not supported: ${bridge}`);
  const model = readModel(option.take('model'));
  const mac = readMac(option.take('mac') ?? option.take('macaddr'));
  const id = option.take('id');
  return [
    { kind: 'netdev', id, forwards: readUser(option) },
    { kind: 'card', netdev: id, model, ...mac },
  ];
}

function readNet(value: string): readonly Wish[] {
  const option = new OptionText(value, 'type');
  const type = option.take('type') ?? '';
  // The number or name of a hub: there is one network.
  option.ignore('vlan', 'name');
  if (type === 'none') return [{ kind: 'no-network' }];
  if (type === 'user') return [{ kind: 'netdev', id: undefined, forwards: readUser(option) }];
  if (type !== 'nic') throw new Refusal(`${quoted(type)} is not supported: ${bridge}`);
  const netdev = option.take('netdev');
  const model = readModel(option.take('model'));
  const mac = readMac(option.take('macaddr'));
  option.ignore('addr', 'vectors');
  refuseRest(option);
  return [{ kind: 'card', netdev, model, ...mac }];
}

/** QEMU's own addresses, which are those of this driver as well. */
const usualAddresses: Readonly<Record<string, string>> = {
  net: '10.0.2.0/24',
  host: '10.0.2.2',
  dhcpstart: '10.0.2.15',
  dns: '10.0.2.3',
};

function readUser(option: OptionText): readonly HostForward[] {
  const forwards = option.takeAll('hostfwd').map(readForward);
  for (const [key, usual] of Object.entries(usualAddresses)) {
    const value = option.take(key);
    if (value === undefined || value === usual) continue;
    throw new Refusal(
      `${key}=${value} is not supported: leave it out, and use ${usual} in the guest`,
    );
  }
  option.ignore('id', 'vlan', 'name', 'hostname', 'domainname', 'ipv4', 'ipv6', 'dnssearch');
  // Stricter than the job asks for would be no harm, looser would be.
  option.ignore('restrict');
  refuseRest(option);
  return forwards;
}

/** `tcp:127.0.0.1:2222-10.0.2.15:22`, in which each address may be left out. */
function readForward(text: string): HostForward {
  const form = /^(?:(tcp|udp)?:)?([^:]*):(\d{1,5})-([^:]*):(\d{1,5})$/;
  const [, , hostIp = '', host, guestIp = '', guest] = form.exec(text) ?? [];
  if (guestIp !== '' && guestIp !== '10.0.2.15') {
    throw new Refusal(`hostfwd: the guest has the address 10.0.2.15, not ${quoted(guestIp)}`);
  }
  return checkForward({ hostIp, hostPort: Number(host), guestPort: Number(guest) }, text);
}

/** The form before `hostfwd`: `tcp:2222::22`. */
function readRedir(text: string): readonly Wish[] {
  const [, host, guest] = /^(?:tcp|udp):(\d{1,5}):(?:10\.0\.2\.15)?:(\d{1,5})$/.exec(text) ?? [];
  const forward = { hostIp: '', hostPort: Number(host), guestPort: Number(guest) };
  return [{ kind: 'netdev', id: undefined, forwards: [checkForward(forward, text)] }];
}

function checkForward(forward: HostForward, text: string): HostForward {
  const { hostIp, hostPort, guestPort } = forward;
  if (!isPort(hostPort) || !isPort(guestPort)) {
    const form = '"tcp::2222-:22"';
    throw new Refusal(`${quoted(text)} forwards no port: write it as ${form}`);
  }
  if (hostIp !== '' && parseIpv4(hostIp) === undefined) {
    throw new Refusal(`${quoted(hostIp)} is not an IPv4 address of the host`);
  }
  return hostIp === '0.0.0.0' ? { ...forward, hostIp: '' } : forward;
}

function isPort(port: number): boolean {
  return port > 0 && port < 65_536;
}

function readModel(text: string | undefined): NicModel | undefined {
  if (text === undefined) return undefined;
  const model = Object.hasOwn(cardModels, text) ? cardModels[text] : undefined;
  if (model !== undefined) return model;
  throw new Refusal(
    `model=${text} is not supported: use virtio, e1000, e1000e, rtl8139 or vmxnet3`,
  );
}

/** A card's address: one of a single card, so that no bridge takes it for many. */
export function readMac(text: string | undefined): Pick<CardWish, 'mac'> {
  if (text === undefined) return {};
  const mac = text.toLowerCase().replaceAll('-', ':');
  if (/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac) && mac !== '00:00:00:00:00:00') {
    return { mac };
  }
  throw new Refusal(`${quoted(text)} is not the MAC address of a card`);
}
