import { formatEnvFile, shellWord } from './env-file.ts';
import type { Plain } from './json-yaml.ts';
import { clientIdCommand, nameServerCommand } from './network-commands.ts';
import { readPassword } from './password.ts';
import {
  authorizedKeys,
  instanceIdOf,
  type SeedMount,
  type SeedRequest,
  type SeedSsh,
} from './seed-request.ts';

const envPath = '/etc/nomad/env';
const sourceEnv = `if [ -r ${envPath} ]; then set -a; . ${envPath}; set +a; fi`;

// systemd starts a login at the operators' console where that exists before its units are read. On systems whose driver
// for it is a module (Debian 12) it comes later.
const startLogin =
  'test ! -c /dev/hvc0 || test ! -d /run/systemd/system || systemctl --no-block start serial-getty@hvc0.service || true';

// Lists of this document and of the user's are joined, this document's first; of anything else the user's value wins.
// cloud-init consumes one of the two keys while it reads this document and the other when it merges it with the user's,
// where the default would drop this document's whole list. (With `merge_how` alone a user's own runcmd makes the job's commands disappear: seen with
// cloud-init 22.4.)
const merging = 'list(prepend)+dict(no_replace,recurse_dict,recurse_list)+str()';

/** The cloud-config with what the job specifies beside its user data. */
export function vendorData(request: SeedRequest): Plain {
  const keys = authorizedKeys(request);
  const env = formatEnvFile(request.env);
  const { ssh } = request;
  const commands = [...(env.text === '' ? [] : [sourceEnv]), ...request.commands];
  const atEachBoot = request.commandsOn === 'boot' && request.commands.length > 0;
  const files = [
    ...(env.text === '' ? [] : envFiles(env.text)),
    ...(atEachBoot ? [bootScript(instanceIdOf(request), commands)] : []),
  ];
  return {
    merge_how: merging,
    merge_type: merging,
    ...(request.password !== undefined && passwordConfig(request.password)),
    ...(keys.length > 0 && { ssh_authorized_keys: keys }),
    ...(request.timezone !== undefined && { timezone: request.timezone }),
    ...(files.length > 0 && { write_files: files }),
    bootcmd: bootCommands(request),
    ...(ssh !== undefined && { ssh_keys: hostKeys(ssh) }),
    // cloud-init makes one sh script of all entries, so the exports of the first one reach the others.
    ...(request.commands.length > 0 && !atEachBoot && { runcmd: commands }),
  };
}

function bootCommands({ mounts, network = [], networkConfig, ssh }: SeedRequest): string[] {
  // A job's own network configuration is the job's matter.
  const ours = networkConfig === undefined ? network : [];
  return [
    ...mounts.map(mountCommand),
    ...[nameServerCommand(ours), clientIdCommand(ours)].filter((command) => command !== undefined),
    startLogin,
    ...(ssh ? [letIn(ssh)] : []),
  ];
}

// The password does not expire: a VM is made anew at every restart of its task, so a password that must be changed
// at the first login would have to be changed each time. Whether sshd accepts passwords is left to the image.
// cloud-init would set a hash of a newer kind as if it was clear text; as a property of the default user it is known as
// one, whose account is locked otherwise.
function passwordConfig(password: string): Plain & object {
  const read = readPassword(password);
  if (read.kind === 'hash' && !read.known) {
    return { system_info: { default_user: { hashed_passwd: password, lock_passwd: false } } };
  }
  return { password, chpasswd: { expire: false } };
}

// cloud-init runs what is in this directory at the end of each boot. A disk that outlives its VM keeps the file, so it
// does nothing for another instance.
function bootScript(instanceId: string, commands: readonly string[]): Plain {
  const own = `[ "$(cat /var/lib/cloud/data/instance-id)" = ${shellWord(instanceId)} ] || exit 0`;
  return {
    path: '/var/lib/cloud/scripts/per-boot/nomad-cmds',
    owner: 'root:root',
    permissions: '0700',
    content: `${['#!/bin/sh', own, ...commands].join('\n')}\n`,
  };
}

// The environment may hold secrets: only root reads it. Login shells of root get it by the second file, which holds no
// secret; units can name the first one in EnvironmentFile=.
function envFiles(text: string): readonly Plain[] {
  return [
    { path: envPath, owner: 'root:root', permissions: '0600', content: text },
    {
      path: '/etc/profile.d/nomad.sh',
      owner: 'root:root',
      permissions: '0644',
      content: `${sourceEnv}\n`,
    },
  ];
}

function hostKeys({ hostKey }: SeedSsh): Plain {
  return { ed25519_private: hostKey.private, ed25519_public: hostKey.public };
}

// Not by cloud-init's own keys: those are for the default user, whose name only the image knows, and what cloud-init gives
// root of them does nothing but refuse. It runs before sshd is started, and removes the key of an earlier VM from a disk
// that was kept.
function letIn({ authorizedKey }: SeedSsh): string {
  const file = '/root/.ssh/authorized_keys';
  const [comment = ''] = authorizedKey.split(' ').slice(-1);
  const steps = [
    'umask 077; mkdir -p /root/.ssh; touch $f',
    `sed -i ${shellWord(`/ ${comment}$/d`)} $f`,
    '[ -z "$(tail -c 1 $f)" ] || echo >>$f',
    `printf '%s\\n' ${shellWord(authorizedKey)} >>$f`,
    'if command -v restorecon >/dev/null; then restorecon -R /root/.ssh; fi',
  ];
  return `(f=${file}; ${steps.join('; ')})`;
}

// At every boot, and without an entry in fstab: a guest whose kernel lacks the file system still boots.
function mountCommand(mount: SeedMount): string {
  const target = shellWord(mount.target);
  const options = [
    mount.readOnly ? 'ro' : 'rw',
    ...(mount.type === '9p' ? ['trans=virtio', 'version=9p2000.L', 'msize=262144'] : []),
  ].join(',');
  const mounting = `mount -t ${mount.type} -o ${options} ${shellWord(mount.tag)} ${target}`;
  return `mkdir -p ${target}; mountpoint -q ${target} || ${mounting} || true`;
}
