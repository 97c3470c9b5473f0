import { quoted } from '#spec';
import { readPassword } from './password.ts';
import type { UserData } from './user-data-text.ts';

/** A share that the guest mounts at boot, where its kernel supports it. */
export interface SeedMount {
  readonly tag: string;
  readonly target: string;
  readonly type: 'virtiofs' | '9p';
  readonly readOnly: boolean;
}

/** One interface. Without an address it uses DHCP, as does every interface when there is no network part at all. */
export interface SeedNic {
  readonly mac: string;
  /** Of IPv6 where it has no other. */
  readonly address?: string;
  readonly prefix?: number;
  readonly gateway?: string;
  /** An IPv6 address beside that one. */
  readonly six?: { readonly ip: string; readonly prefix: number; readonly gateway?: string };
  readonly nameservers: readonly string[];
  /** Domains to try for names without dots. */
  readonly searches?: readonly string[];
  readonly mtu?: number;
  /** It asks a DHCP server that other guests ask as well. */
  readonly sharesDhcp?: boolean;
  /** false: the default route goes through another interface, whatever DHCP answers on this one. */
  readonly isDefaultRoute?: boolean;
}

/** How the host logs in to the guest's sshd as root. Keys as OpenSSH writes them, each public one on one line. */
export interface SeedSsh {
  /** The guest's identity, an Ed25519 key. */
  readonly hostKey: { readonly private: string; readonly public: string };
  readonly authorizedKey: string;
}

/** The configuration for a guest's first boot. Text values are data: none of them can become syntax. */
export interface SeedRequest {
  readonly instanceId: string;
  readonly hostname: string;
  /** Passed on byte for byte. */
  readonly userData?: UserData | undefined;
  /** Beside, and in the place of, what the driver puts there. */
  readonly metaData?: Readonly<Record<string, string>> | undefined;
  /** Passed on as it is, in the place of `network`. */
  readonly networkConfig?: string | undefined;
  /** Of the image's default user: clear text, or a hash of crypt(5). */
  readonly password?: string | undefined;
  /** One key a line, as in an authorized_keys file. */
  readonly authorizedKey?: string | undefined;
  readonly commands: readonly string[];
  /** `boot`: the commands run at each boot; `instance` when left out: at the first one. */
  readonly commandsOn?: 'instance' | 'boot' | undefined;
  readonly timezone?: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly SeedMount[];
  readonly network?: readonly SeedNic[] | undefined;
  readonly ssh?: SeedSsh | undefined;
}

/** Which instance cloud-init takes the VM for: another one begins anew. */
export function instanceIdOf({ instanceId, metaData = {} }: SeedRequest): string {
  return metaData['instance-id'] ?? instanceId;
}

/** The keys of the default user, one a line in the request. */
export function authorizedKeys({ authorizedKey = '' }: SeedRequest): readonly string[] {
  return authorizedKey
    .split('\n')
    .map((key) => key.trim())
    .filter((key) => key !== '');
}

// A line break would start a second line where the guest's tools read one (chpasswd's "user:password", /etc/hostname).
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are the point
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const nul = '\0';

/** Something that no guest could use unchanged, by the key of the job that it comes from. */
export interface SeedProblem {
  readonly field: string;
  readonly text: string;
}

/**
 * All that no guest could use unchanged: the reasons for which buildSeed refuses a request. Interfaces are not checked,
 * so this can be called before any exist.
 */
export function seedProblems(request: SeedRequest): readonly SeedProblem[] {
  const problems: SeedProblem[] = [];
  const line = (field: string, value: string | undefined, what = ''): void => {
    if (value === undefined) return;
    const problem = 'contains a control character or line break';
    if (control.test(value)) problems.push({ field, text: `${what}${problem}` });
    else text(field, value, what);
  };
  const text = (field: string, value: string, what = ''): void => {
    if (value.includes(nul)) problems.push({ field, text: `${what}contains a NUL byte` });
    if (!value.isWellFormed()) problems.push({ field, text: `${what}is not valid Unicode` });
  };
  line('task', request.instanceId, 'the name of the VM ');
  line('hostname', request.hostname);
  line('default_user_password', request.password);
  const password = readPassword(request.password ?? '');
  if (password.kind === 'wrong') {
    problems.push({ field: 'default_user_password', text: password.problem });
  }
  line('timezone', request.timezone);
  text('default_user_authorized_ssh_key', request.authorizedKey ?? '');
  for (const [index, command] of request.commands.entries()) text(`cmds[${index}]`, command);
  for (const { tag, target } of request.mounts) {
    line('volume_mount', tag, `the tag of ${quoted(target)} `);
    line('volume_mount', target, `${quoted(target)} `);
    if (!target.startsWith('/')) {
      problems.push({ field: 'volume_mount', text: `${quoted(target)} is not absolute` });
    }
  }
  return problems;
}
