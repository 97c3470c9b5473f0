import fc from 'fast-check';
import type { SeedRequest } from '#cloudinit';

export const smallest: SeedRequest = {
  instanceId: 'web-1a2b3c4d',
  hostname: 'nomad-web-1a2b3c4d',
  commands: [],
  env: {},
  mounts: [],
};

export const fullest: SeedRequest = {
  ...smallest,
  userData: '#cloud-config\npackages: [nginx]\n',
  password: 'pa: ss"\'#word',
  authorizedKey: 'ssh-ed25519 AAAAC3Nz one@example\n\nssh-ed25519 AAAAC3Nz two@example\n',
  commands: ['echo "key: value" # not a comment', "printf '%s\\n' *"],
  timezone: 'Europe/Paris',
  env: { NOMAD_PORT_http: '8080', GREETING: 'it\'s "$HOME" & `id` \\', 'not-a-name': 'x' },
  mounts: [
    { tag: 'allocDir', target: '/alloc', type: 'virtiofs', readOnly: true },
    { tag: 'data', target: "/srv/it's here", type: '9p', readOnly: false },
  ],
  network: [
    {
      mac: '52:54:00:AB:CD:EF',
      address: '192.168.122.5',
      prefix: 24,
      gateway: '192.168.122.1',
      nameservers: ['192.168.122.1'],
      mtu: 1400,
    },
    {
      mac: '52:54:00:ab:cd:f0',
      address: 'fd00::5',
      prefix: 64,
      gateway: 'fd00::1',
      nameservers: [],
    },
    { mac: '52:54:00:ab:cd:f1', nameservers: ['10.0.0.2'], searches: ['lan.example'] },
  ],
};

// What has broken YAML, shells or their quoting before.
const nasty = [
  '',
  ' ',
  '"',
  "'",
  "'; touch /pwned; '",
  '$(touch /pwned)',
  '`touch /pwned`',
  '$HOME',
  '$' + '{HOME}',
  '\\',
  '\\\n',
  '\\"',
  'a: b',
  '- a',
  '# a',
  'a #b',
  '{a: b}',
  '[a]',
  '*a',
  '&a',
  '!!str',
  '%',
  '@',
  '~',
  'null',
  'yes',
  '0777',
  '1e3',
  '---',
  '...',
  '\n---\n',
  '\nroot: x',
  '\t',
  '\r\n',
  '{{ v1.x }}',
  '\u0085',
  '\u2028',
  '\u007f',
  '\u009f',
  '\ufeff',
  '\ufffe',
  '\uffff',
  'é😀',
  '!',
  '<<: *x',
  '?',
  '-n',
];

/** Any text, with the troublesome ones often; no NUL, no lone surrogates. */
export const text = fc
  .oneof(
    fc.constantFrom(...nasty),
    fc.string({ unit: 'binary' }),
    fc.array(fc.constantFrom(...nasty, 'a'), { maxLength: 5 }).map((parts) => parts.join('')),
  )
  .filter((it) => !it.includes('\0') && it.isWellFormed());

/** Any text of one line. */
export const line = text.filter((it) => !/[\p{Cc}\u2028\u2029]/u.test(it));
