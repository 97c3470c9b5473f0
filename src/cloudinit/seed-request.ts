import { quoted } from '#spec';
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
  readonly address?: string;
  readonly prefix?: number;
  readonly gateway?: string;
  readonly nameservers: readonly string[];
  /** Domains to try for names without dots. */
  readonly searches?: readonly string[];
  readonly mtu?: number;
}

/** The configuration for a guest's first boot. Text values are data: none of them can become syntax. */
export interface SeedRequest {
  readonly instanceId: string;
  readonly hostname: string;
  /** Passed on byte for byte. */
  readonly userData?: UserData | undefined;
  /** Clear text, for the image's default user. */
  readonly password?: string | undefined;
  /** One key a line, as in an authorized_keys file. */
  readonly authorizedKey?: string | undefined;
  readonly commands: readonly string[];
  readonly timezone?: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly SeedMount[];
  readonly network?: readonly SeedNic[] | undefined;
}

// A line break would start a second line where the guest's tools read one (chpasswd's "user:password", /etc/hostname).
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are the point
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const nul = '\0';

/**
 * Every field whose value no guest could use unchanged, a sentence each: the reasons for which buildSeed refuses a
 * request. Interfaces are not checked, so this can be called before any exist.
 */
export function seedProblems(request: SeedRequest): readonly string[] {
  const problems: string[] = [];
  const line = (what: string, value: string | undefined): void => {
    if (value === undefined) return;
    if (control.test(value)) problems.push(`${what} contains a control character or line break`);
    else text(what, value);
  };
  const text = (what: string, value: string): void => {
    if (value.includes(nul)) problems.push(`${what} contains a NUL byte`);
    if (!value.isWellFormed()) problems.push(`${what} is not valid Unicode`);
  };
  line('the instance id', request.instanceId);
  line('the hostname', request.hostname);
  line('the password', request.password);
  line('the timezone', request.timezone);
  text('the authorized key', request.authorizedKey ?? '');
  for (const [index, command] of request.commands.entries()) text(`command ${index + 1}`, command);
  for (const mount of request.mounts) {
    line(`the tag of the mount at ${quoted(mount.target)}`, mount.tag);
    line(`the mount point ${quoted(mount.target)}`, mount.target);
    if (!mount.target.startsWith('/')) {
      problems.push(`the mount point ${quoted(mount.target)} is not absolute`);
    }
  }
  return problems;
}
