import { quoted, type StoragePool, type StoragePools } from '#spec';
import { parseHostPort } from '../hcl/host-port.ts';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';
import { isWithin, type Paths, readPath, stateDirs } from './paths.ts';

const cephFields = {
  pool: {
    kind: 'attr',
    type: 'string',
    required: true,
    doc: 'Name of the RADOS pool.',
    example: '"vms"',
  },
  hosts: {
    kind: 'attr',
    type: 'list(string)',
    required: true,
    doc: 'Monitors: a name or an address, with a port where it is not the usual one. IPv6 addresses are written in brackets.',
    example: '["192.0.2.1:6789", "[2001:db8::1]:6789"]',
  },
  authentication: {
    kind: 'block',
    doc: 'A cephx user of the cluster. Required.',
    fields: {
      username: {
        kind: 'attr',
        type: 'string',
        required: true,
        doc: 'Its name, without `client.`.',
        example: '"nomad"',
      },
      secret: {
        kind: 'attr',
        type: 'string',
        required: true,
        secret: true,
        doc: 'Its key, in base64. It appears in no log, no message and no command line.',
        example: '"AQBSdFhcGxRHEBAAkMJzKQ5Qw4mH2DdPqVUBDw=="',
      },
    },
  },
} as const satisfies Fields;

export const storagePoolFields = {
  storage_pools: {
    kind: 'block',
    doc: 'Where the disks of VMs are created. Without this block there is one place, in data_dir.',
    fields: {
      default: {
        kind: 'attr',
        type: 'string',
        doc: 'The pool of disks that name none. Required when there are several.',
        example: '"local"',
      },
      directory: {
        kind: 'block-map',
        doc: 'A directory of this host. Its name consists of letters, digits, dots, dashes and underscores.',
        example: 'local',
        fields: {
          path: {
            kind: 'attr',
            type: 'string',
            required: true,
            doc: "An absolute path; made when it is missing. Not in `run_dir` nor in the driver's own directories of data_dir, and not one that contains data_dir or run_dir. Jobs can not name files in it as images.",
            example: '"/srv/vm-disks"',
          },
        },
      },
      ceph: {
        kind: 'block-map',
        doc: 'A pool of a Ceph cluster, whose images (RBD) are the disks.',
        example: 'remote',
        fields: cephFields,
      },
    },
  },
} as const satisfies Fields;

type Raw = NonNullable<Decoded<typeof storagePoolFields>['storage_pools']>;

/** The pools of the configuration; none without the block. Paths are compared with `paths`. */
export function readStoragePools(
  { storage_pools: raw }: Decoded<typeof storagePoolFields>,
  paths: Paths,
  report: Report,
): StoragePools {
  if (raw === undefined) return { pools: [], default: undefined };
  const pools = [...readDirectories(raw, paths, report), ...readCephs(raw, report)];
  return { pools, default: readDefault(raw, pools, report) };
}

function readDefault(raw: Raw, pools: readonly StoragePool[], report: Report): string | undefined {
  const names = pools.map(({ name }) => name);
  const only = names.length === 1 ? names[0] : undefined;
  const name = raw.default || only;
  if (names.length === 0) report('storage_pools', 'no storage pools defined');
  else if (name === undefined) {
    report(
      'storage_pools.default',
      `no default pool set: required with more than one pool; one of ${names.join(', ')}`,
    );
  } else if (!names.includes(name)) {
    report(
      'storage_pools.default',
      `default storage pool is unknown - ${name}; defined are ${names.join(', ')}`,
    );
  }
  return name;
}

function readDirectories({ directory }: Raw, paths: Paths, report: Report): readonly StoragePool[] {
  const taken = new Map<string, string>();
  return [...directory].map(([name, raw]) => {
    const key = `storage_pools.directory.${name}`;
    checkName(key, name, report);
    const path = readPath(`${key}.path`, raw.path, report);
    const problem = pathProblem(path, paths);
    const other = taken.get(path);
    if (problem !== undefined) report(`${key}.path`, problem);
    else if (other !== undefined) report(`${key}.path`, `is the path of pool ${other} as well`);
    taken.set(path, name);
    return { kind: 'directory', name, path };
  });
}

/** Why no pool can be there; undefined when it can. */
function pathProblem(path: string, { dataDir, runDir }: Paths): string | undefined {
  if (!path.startsWith('/')) return undefined;
  if (path === '/') return 'must be a directory for this pool, not "/"';
  const inside = [...stateDirs({ dataDir }), runDir].find((directory) => isWithin(path, directory));
  if (inside !== undefined) return `must not be in ${inside}, where the driver keeps other things`;
  const around = [dataDir, runDir].find((directory) => isWithin(directory, path));
  if (around === undefined) return undefined;
  return `must not contain ${around}: the pool needs a directory of its own, such as ${path}/pool`;
}

function readCephs({ ceph, directory }: Raw, report: Report): readonly StoragePool[] {
  return [...ceph].map(([name, raw]) => {
    const key = `storage_pools.ceph.${name}`;
    if (directory.has(name)) report(key, `storage pool name already defined - ${name}`);
    checkName(key, name, report);
    if (!/^[^/@\s]{1,255}$/.test(raw.pool)) {
      report(`${key}.pool`, `${quoted(raw.pool)} is not the name of a RADOS pool`);
    }
    return {
      kind: 'ceph',
      name,
      pool: raw.pool,
      hosts: readHosts(`${key}.hosts`, raw.hosts, report),
      ...readAuthentication(`${key}.authentication`, raw.authentication, report),
    };
  });
}

function readHosts(key: string, texts: readonly string[], report: Report) {
  if (texts.length === 0) report(key, 'must name at least one monitor');
  return texts.flatMap((text, index) => {
    const host = parseHostPort(text);
    if (host !== undefined) return [host];
    const form = 'a host with an optional port, such as "mon1:6789" or "[2001:db8::1]:6789"';
    report(`${key}[${index}]`, `${quoted(text)} is not ${form}`);
    return [];
  });
}

type Authentication = Decoded<typeof cephFields.authentication.fields>;

function readAuthentication(
  key: string,
  raw: Authentication | undefined,
  report: Report,
): Authentication {
  if (raw === undefined) {
    report(key, 'is required');
    return { username: '', secret: '' };
  }
  if (!/^[A-Za-z0-9_.-]+$/.test(raw.username) || raw.username.startsWith('client.')) {
    const shown = quoted(raw.username);
    report(`${key}.username`, `${shown} is not the name of a cephx user, without "client."`);
  }
  if (raw.secret.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(raw.secret)) {
    report(`${key}.secret`, 'is not a cephx key in base64');
  }
  return raw;
}

/** Names are parts of node attributes and of messages. */
function checkName(key: string, name: string, report: Report): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(name)) return;
  const rule = '1 to 63 letters, digits, dots, dashes and underscores, the first a letter or digit';
  report(key, `${quoted(name)} is not a name for a pool (${rule})`);
}
