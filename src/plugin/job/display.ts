import {
  type DisplaySpec,
  isLoopbackText,
  listed,
  type NicSpec,
  quoted,
  type VncPort,
  type VncSpec,
} from '#spec';
import type { Decoded } from '../hcl/schema.ts';
import type { Job } from './job.ts';
import { groupNetns } from './nics/group.ts';

/** The protocol makes a key of 8 bytes of it, and viewers do not agree on what is not ASCII. */
const passwordForm = /^[\x20-\x7e]{1,8}$/;

const vncFields = {
  port: {
    kind: 'attr',
    type: 'string',
    doc: "Label of the group's `network { port }` at whose number of the host viewers connect; it needs a `password`, except on a loopback address of the host where the group has no network of its own. Without it only root of the host reaches the server, at the socket `vnc.sock` of the VM.",
    example: '"vnc"',
  },
  password: {
    kind: 'attr',
    type: 'string',
    secret: true,
    doc: 'Password of the viewers, 1 to 8 ASCII characters: the protocol uses no more of it, nor does it encrypt anything else. For the socket as well.',
    example: '"8-letter"',
  },
} as const;

const fields = {
  video: {
    kind: 'attr',
    type: 'string',
    default: 'virtio',
    oneOf: ['virtio', 'std', 'none'],
    doc: "The guest's graphics card: `virtio`, which is also a VGA card on x86_64; `std`, a plain VGA card, for guests without drivers; `none`.",
    example: '"std"',
  },
  vnc: {
    kind: 'block',
    doc: 'A VNC server that shows the screen and takes keyboard and mouse.',
    fields: vncFields,
  },
} as const;

/** A screen, and how to see it. */
export const display = {
  field: {
    kind: 'block',
    doc: 'A screen, with mouse and keyboard. Without the block there is none, and the console is the serial port.',
    fields,
  },
  read: ({ video, vnc }: Decoded<typeof fields>, job: Job): DisplaySpec => {
    if (vnc === undefined) return { video };
    if (video === 'none') {
      job.report('display.vnc', 'has nothing to show with video = "none"; leave one of them out');
    }
    return { video, vnc: readVnc(vnc, job) };
  },
} as const;

function readVnc({ port, password }: Decoded<typeof vncFields>, job: Job): VncSpec {
  const listen = port ? readPort(port, job) : [];
  if (password) checkPassword(password, job);
  else {
    const open = listen.find(
      ({ hostIp, inGroup }) => inGroup !== undefined || !isLoopbackText(hostIp),
    );
    if (open !== undefined) {
      const text = `is required: the port ${quoted(open.label)} is ${reachOf(open)}`;
      job.report('display.vnc.password', text);
    }
  }
  return password ? { password, listen } : { listen };
}

/** Where one is reached without a password, and what to do. */
function reachOf({ hostIp, inGroup }: VncPort): string {
  if (inGroup !== undefined) return 'in the network of the group, which others reach; set it';
  const where = hostIp === '' ? 'every address of the host' : hostIp;
  return `on ${where}; set it, or use a host_network with a loopback address`;
}

/** The password itself is in no message. */
function checkPassword(password: string, { report }: Job): void {
  if (passwordForm.test(password)) return;
  const text =
    password.length > 8
      ? `has ${password.length} characters, of which the VNC protocol uses 8; write 8 or fewer`
      : 'must consist of ASCII characters, which all viewers send alike';
  report('display.vnc.password', text);
}

function readPort(label: string, { task, report }: Job): VncSpec['listen'] {
  const known = task.resources?.ports ?? [];
  const ports = known.filter((port) => port.label === label);
  if (ports.length === 0) {
    const labels = [...new Set(known.map((port) => port.label))];
    const others = labels.length === 0 ? 'the group has no ports' : `there are ${listed(labels)}`;
    report('display.vnc.port', `no port is labelled ${quoted(label)}; ${others}`);
  }
  const netns = groupNetns(task);
  return ports.map(({ hostIp, value, to }) => {
    const own = { label, hostIp, hostPort: value };
    return netns === undefined ? own : { ...own, inGroup: { netns, port: to > 0 ? to : value } };
  });
}

/** A port leads to one place. `key` is what the job has the screen by. */
export function checkDisplayPort(
  {
    nics,
    display,
    key,
  }: {
    readonly nics: readonly NicSpec[];
    readonly display?: DisplaySpec | undefined;
    readonly key: string;
  },
  { report }: Pick<Job, 'report'>,
): void {
  const forwarded = nics.flatMap(({ ports }) => ports.map(({ label }) => label));
  const twice = display?.vnc?.listen.find(({ label }) => forwarded.includes(label));
  if (twice === undefined) return;
  const text = `${quoted(twice.label)} is forwarded to the guest already; use another port`;
  report(key, text);
}
