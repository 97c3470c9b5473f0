import { quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { screenOptions } from './screen-options.ts';
import { type OptionKind, type ReadOption, Refusal } from './wish.ts';

const nothing: ReadOption = () => [];
const noEffect = (names: readonly string[], becomes: string, value?: string): OptionKind => ({
  names,
  becomes: `No effect: ${becomes}`,
  ...(value === undefined ? {} : { value }),
  read: nothing,
});

/** Where a character device may lead without a file or socket of the host. */
const inside =
  /^(mon:)?(stdio|null|none|vc(:.*)?|pty|chardev:.*|\/dev\/null|ringbuf.*|spicevmc|spiceport)$/;

const insideOnly =
  (what: string): ReadOption =>
  (value) => {
    if (inside.test(value)) return [];
    throw new Refusal(`${quoted(value)} is a file or socket of the host: ${what}`);
  };

/** Consoles, screens, and options without an effect on the guest. */
export const consoleOptions: readonly OptionKind[] = [
  {
    names: ['serial'],
    value: 'stdio',
    becomes:
      'The first serial port is the console, in the log of the task. Files and sockets are refused.',
    read: insideOnly('the console is in `nomad alloc logs`; leave it out'),
  },
  {
    names: ['monitor'],
    value: 'none',
    becomes:
      "No effect for `none`, `stdio` and the like: the monitor is the driver's. Sockets are refused.",
    read: insideOnly(
      "the monitor is the driver's own; use `nomad alloc signal` and `nomad alloc stop`",
    ),
  },
  {
    names: ['parallel'],
    value: 'none',
    becomes: 'No effect for `none`; others are refused.',
    read: insideOnly('there is no parallel port; leave it out'),
  },
  {
    names: ['debugcon'],
    value: 'stdio',
    becomes: 'No effect for `stdio` and the like; files and sockets are refused.',
    read: insideOnly('the console is in `nomad alloc logs`; leave it out'),
  },
  {
    names: ['chardev'],
    value: 'socket,path=qga.sock,server=on,id=qga0',
    becomes:
      "The guest agent's is the driver's own. Another that is a file or a socket is refused.",
    read: (value) => {
      const option = new OptionText(value, 'backend');
      const backend = option.take('backend') ?? '';
      const opens = inside.test(backend) ? undefined : backend;
      return [{ kind: 'chardev', id: option.take('id') ?? '', opens }];
    },
  },
  noEffect(['nographic'], 'the console is in the log of the task, and there is no window.'),
  ...screenOptions,
  noEffect(
    ['full-screen', 'portrait', 'alt-grab', 'ctrl-grab', 'no-frame', 'no-quit'],
    'there is no window.',
  ),
  noEffect(['rotate'], 'there is no window.', '90'),
  noEffect(['nodefconfig', 'no-user-config'], 'no configuration file is read.'),
  noEffect(['name'], 'the VM has the name of the task.', 'web'),
  noEffect(['uuid'], 'the machine has an id of its own.', '550e8400-e29b-41d4-a716-446655440000'),
  noEffect(['usb'], 'USB is there when a disk needs it.'),
  noEffect(['usbdevice'], 'the screen of `-vnc` has mouse and keyboard.', 'tablet'),
  noEffect(['k'], 'there is no keyboard.', 'de'),
  noEffect(['balloon'], 'every guest has a balloon.', 'virtio'),
  noEffect(['soundhw', 'audiodev', 'audio'], 'the guest has no sound.', 'hda'),
  noEffect(['msg'], 'messages have their time.', 'timestamp=on'),
  noEffect(['sandbox'], 'QEMU always runs in its sandbox.', 'on'),
  noEffect(['overcommit', 'realtime'], "the task's limits hold.", 'mem-lock=off'),
  noEffect(
    [
      'no-fd-bootchk',
      'no-hpet',
      'mem-prealloc',
      'win2k-hack',
      'only-migratable',
      'async-teardown',
      'enable-sync-profile',
    ],
    'the guest needs none of them.',
  ),
  noEffect(['echr', 'seed', 'compat'], 'the guest needs none of them.', '1'),
  noEffect(['numa', 'mem-path'], "memory is the task's.", 'node,memdev=mem0'),
  {
    names: ['run-with'],
    value: 'async-teardown=on',
    becomes:
      'No effect for `async-teardown`; others are refused: the VM has a user and a directory of its own.',
    read: (value) => {
      const option = new OptionText(value);
      option.ignore('async-teardown');
      refuseRest(option);
      return [];
    },
  },
  {
    names: ['object'],
    value: 'rng-random,id=rng0,filename=/dev/urandom',
    becomes:
      'No effect for `rng-random`, `rng-builtin`, `iothread` and `memory-backend-…`; others are refused.',
    read: (value) => {
      const type = new OptionText(value, 'qom-type').take('qom-type') ?? '';
      if (/^(rng-random|rng-builtin|iothread|memory-backend-(ram|memfd|file))$/.test(type))
        return [];
      if (type === 'throttle-group')
        throw new Refusal(`${quoted(type)} is not read: use \`disk { throttle }\``);
      throw new Refusal(`${quoted(type)} is not supported; leave it out`);
    },
  },
];
