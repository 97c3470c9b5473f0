import { type DisplaySpec, quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { type OptionKind, Refusal, type Wish } from './wish.ts';

/** The first port of VNC: display 1 is the next one. */
const firstPort = 5900;

/** The guest's screen. */
export const screenOptions: readonly OptionKind[] = [
  {
    names: ['vnc'],
    value: '127.0.0.1:1',
    becomes:
      'A screen, by VNC on 127.0.0.1 at that port of the host, or of the group in a group with a network of its own, whatever address is written: it has no password. An event reports that. `unix:` is the socket `vnc.sock` of the VM, `none` no screen. For other hosts: `display { vnc { port, password } }`.',
    read: readVnc,
  },
  {
    names: ['vga'],
    value: 'std',
    becomes: 'The graphics card of `-vnc`, `std` or `virtio`; without it no effect.',
    read: (value) => [{ kind: 'video', video: readVideo(value) }],
  },
  {
    names: ['display'],
    value: 'none',
    becomes: 'No effect for `none`; `vnc=` is `-vnc`. Windows of the host are refused.',
    read: (value) => {
      if (/^none\b/.test(value)) return [];
      if (value.startsWith('vnc=')) return readVnc(value.slice(4));
      throw new Refusal(`${quoted(value)} is not supported: use none, or -vnc`);
    },
  },
];

function readVnc(value: string): readonly Wish[] {
  const option = new OptionText(value, 'address');
  const address = option.take('address') ?? '';
  option.ignore('password', 'to', 'share', 'power-control', 'id', 'lossy', 'non-adaptive');
  // Which kind of address a name stands for.
  option.ignore('ipv4', 'ipv6');
  refuseRest(option);
  if (address === 'none') return [];
  if (address.startsWith('unix:')) return [{ kind: 'vnc', port: undefined }];
  const [, host = '', display] = /^(\[[0-9a-fA-F:.]*\]|[^:]*):(\d{1,4})$/.exec(address) ?? [];
  if (display !== undefined) {
    const wasOpen = !/^(localhost|127\.[\d.]+|\[::1\])$/.test(host);
    return [{ kind: 'vnc', port: firstPort + Number(display), ...(wasOpen && { wasOpen }) }];
  }
  throw new Refusal(`${quoted(address)} is no display: write "127.0.0.1:1"`);
}

function readVideo(text: string): DisplaySpec['video'] {
  if (text === 'none') return 'none';
  return text === 'virtio' ? 'virtio' : 'std';
}
