import { type GuestSpec, quoted, type UserData, unpackBase64 } from '#spec';
import type { Decoded, Fields } from '../hcl/schema.ts';
import { readSeedFiles, seedFileFields } from './guest/seed-files.ts';
import type { Job } from './job.ts';
import { sshKeyProblem } from './ssh-key.ts';
import { isTimeZone } from './time-zone.ts';
import { vmName } from './vm-name.ts';

export const guestFields = {
  hostname: {
    kind: 'attr',
    type: 'string',
    doc: 'Host name of the guest: letters, digits and dashes, at most 63. Default: `nomad-` and the name of the VM.',
    example: '"web-1"',
  },
  user_data: {
    kind: 'attr',
    type: 'string',
    doc: 'User data for cloud-init: the text itself when it starts with `#` or `{`, looks like a MIME header, is base64 of user data or has more than one line, else the path of a file, by the rules of `image`.',
    example: '"local/user-data.yml"',
  },
  user_data_check: {
    kind: 'attr',
    type: 'bool',
    default: true,
    doc: 'Whether user data that cloud-init would ignore or misread is refused before the start. `false` gives the guest any data as it is, for other readers.',
    example: 'false',
  },
  ...seedFileFields,
  default_user_authorized_ssh_key: {
    kind: 'attr',
    type: 'string',
    doc: "SSH public keys for the image's default user, one a line.",
    example: '"ssh-ed25519 AAAA… me@example"',
  },
  default_user_authorized_ssh_keys: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'More keys of the same kind, one each.',
    example: '["ssh-ed25519 AAAA… you@example"]',
  },
  default_user_password: {
    kind: 'attr',
    type: 'string',
    secret: true,
    doc: "Password of the image's default user: clear text, or a hash as `mkpasswd` prints it (`$6$…`, `$5$…`, `$y$…`, `$2b$…`).",
    example: '"change-me"',
  },
  cmds: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Shell commands that cloud-init runs at the end of the first boot.',
    example: '["touch /home/debian/started"]',
  },
  cmds_on: {
    kind: 'attr',
    type: 'string',
    default: 'instance',
    oneOf: ['instance', 'boot'],
    doc: 'When `cmds` run: `instance` at the first boot of the VM, `boot` at each boot, also when the guest was reset.',
    example: '"boot"',
  },
  timezone: {
    kind: 'attr',
    type: 'string',
    doc: "The guest's time zone, a name from the tz database, case-sensitive.",
    example: '"Europe/Berlin"',
  },
} as const satisfies Fields;

type Raw = Decoded<typeof guestFields>;

/** What cloud-init sets up inside the guest. */
export function readGuest(raw: Raw, job: Job): GuestSpec {
  const { dns, env } = job.task;
  return {
    hostname: readHostname(raw, job),
    userData: readUserData(raw),
    ...readSeedFiles(raw, job),
    password: raw.default_user_password || undefined,
    authorizedKey: readAuthorizedKey(raw, job),
    commands: raw.cmds,
    ...(raw.cmds_on === 'boot' && { commandsOn: 'boot' }),
    timezone: readTimezone(raw, job),
    ...(dns && { dns: { servers: dns.servers, searches: dns.searches } }),
    env,
  };
}

function readHostname(raw: Raw, { task, report }: Job): string {
  const hostname = raw.hostname || `nomad-${vmName(task.id)}`.slice(0, 63);
  if (!/^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/.test(hostname)) {
    report(
      'hostname',
      `${quoted(hostname)} must consist of letters, digits and dashes, start and end with a letter or digit, and be less than 64 characters long`,
    );
  }
  return hostname;
}

/** Text that can't be meant as a path is the user data itself. */
function readUserData({ user_data: text, user_data_check: check }: Raw): UserData | undefined {
  if (!text) return undefined;
  const inline =
    /^[#{]/.test(text) ||
    text.includes('\n') ||
    /^(content-type|mime-version):/i.test(text) ||
    unpackBase64(text) !== undefined;
  const unchecked = check ? {} : ({ check: false } as const);
  return inline
    ? { kind: 'inline', text, ...unchecked }
    : { kind: 'file', path: text, ...unchecked };
}

/** All keys, one a line. */
function readAuthorizedKey(raw: Raw, { report }: Job): string | undefined {
  const key = raw.default_user_authorized_ssh_key || '';
  const problem = sshKeyProblem(key);
  if (problem !== undefined) report('default_user_authorized_ssh_key', problem);
  for (const [index, more] of raw.default_user_authorized_ssh_keys.entries()) {
    const wrong = more.trim() === '' ? 'is empty' : sshKeyProblem(more);
    if (wrong !== undefined) report(`default_user_authorized_ssh_keys[${index}]`, wrong);
  }
  const keys = [key, ...raw.default_user_authorized_ssh_keys].filter((it) => it !== '');
  return keys.length === 0 ? undefined : keys.join('\n');
}

function readTimezone(raw: Raw, { report }: Job): string | undefined {
  const timezone = raw.timezone || undefined;
  if (timezone !== undefined && !isTimeZone(timezone)) {
    report(
      'timezone',
      `${quoted(timezone)} is not a name from the tz database, such as "Europe/Berlin"`,
    );
  }
  return timezone;
}
