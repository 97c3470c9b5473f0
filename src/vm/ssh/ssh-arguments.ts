/** Where ssh sees its directory, in a root file system that has nothing else of the host but programs. */
export const sshDirectory = 'ssh';

/** Names in it. */
export const sshNames = {
  control: 'control',
  key: 'key',
  knownHosts: 'known_hosts',
  users: 'passwd',
} as const;

const port = 22;
const user = 'root';
/** Together the time after which a guest that has gone silent, such as one that was reset, is given up. */
const aliveSeconds = 5;
const aliveTries = 3;

export interface SshTarget {
  readonly address: string;
  /** Also what the process is found by. */
  readonly alias: string;
}

// No configuration, agent or user's file of the host is read, nothing is asked or forwarded, and no text that a guest
// sends or a command contains is an instruction to ssh.
function common({ alias }: SshTarget): readonly string[] {
  const directory = `/${sshDirectory}`;
  return [
    ...[
      '-F',
      '/dev/null',
      '-S',
      `${directory}/${sshNames.control}`,
      '-l',
      user,
      '-p',
      String(port),
    ],
    ...options({
      HostKeyAlias: alias,
      BatchMode: 'yes',
      ClearAllForwardings: 'yes',
      EscapeChar: 'none',
      ForwardAgent: 'no',
      ForwardX11: 'no',
      LogLevel: 'ERROR',
      PermitLocalCommand: 'no',
      Tunnel: 'no',
    }),
  ];
}

/** The one connection to a guest, which all commands share; it runs none itself. */
export function masterArguments(target: SshTarget, connectSeconds: number): readonly string[] {
  const directory = `/${sshDirectory}`;
  return [
    ...common(target),
    ...options({
      AddKeysToAgent: 'no',
      AddressFamily: 'inet',
      CanonicalizeHostname: 'no',
      CheckHostIP: 'no',
      Compression: 'no',
      ConnectTimeout: String(connectSeconds),
      ControlMaster: 'yes',
      ControlPersist: 'no',
      GlobalKnownHostsFile: '/dev/null',
      HostKeyAlgorithms: 'ssh-ed25519',
      IdentitiesOnly: 'yes',
      IdentityAgent: 'none',
      IdentityFile: `${directory}/${sshNames.key}`,
      PreferredAuthentications: 'publickey',
      ServerAliveCountMax: String(aliveTries),
      ServerAliveInterval: String(aliveSeconds),
      StrictHostKeyChecking: 'yes',
      UpdateHostKeys: 'no',
      UserKnownHostsFile: `${directory}/${sshNames.knownHosts}`,
      VerifyHostKeyDNS: 'no',
    }),
    ...['-N', '-T', target.address],
  ];
}

/** One command on the connection. */
export function commandArguments(
  target: SshTarget,
  { command, terminal }: { readonly command: string; readonly terminal: boolean },
): readonly string[] {
  const own = options({ ControlMaster: 'no' });
  return [...common(target), ...own, terminal ? '-t' : '-T', '--', target.address, command];
}

function options(values: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(values).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}
