import { quoted, type TextSource } from '#spec';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';

export const seedFileFields = {
  meta_data: {
    kind: 'attr',
    type: 'list(map(string))',
    doc: "More keys of cloud-init's meta-data, as templates in user data read them (`{{ ds.meta_data.role }}`). `instance-id` in the place of the VM's name keeps cloud-init from beginning anew on a disk that outlives its VM.",
    example: '{ role = "web" }',
  },
  network_config: {
    kind: 'attr',
    type: 'string',
    doc: 'Network configuration for cloud-init, version 1 or 2, in the place of the one that the driver makes: the text itself when it has several lines or begins with `{`, else the path of a file, by the rules of `image`. The rules for the VM on its network stay as they are.',
    example: '"local/network.yml"',
  },
} as const satisfies Fields;

type Raw = Decoded<typeof seedFileFields>;

interface SeedFiles {
  readonly metaData?: Readonly<Record<string, string>>;
  readonly networkConfig?: TextSource;
}

/** What the job writes into the seed beside user data. */
export function readSeedFiles(
  { meta_data: blocks, network_config: text }: Raw,
  job: Job,
): SeedFiles {
  return {
    ...(blocks !== undefined && { metaData: readMetaData(Object.assign({}, ...blocks), job) }),
    ...(text && { networkConfig: sourceOf(text) }),
  };
}

function sourceOf(text: string): TextSource {
  return text.includes('\n') || text.startsWith('{')
    ? { kind: 'inline', text }
    : { kind: 'file', path: text };
}

/** Keys that the driver sets from other keys of the job. */
const others: Readonly<Record<string, string>> = {
  'local-hostname': 'hostname',
  hostname: 'hostname',
  'public-keys': 'default_user_authorized_ssh_key',
};

function readMetaData(
  data: Readonly<Record<string, string>>,
  { report }: Job,
): Readonly<Record<string, string>> {
  for (const [key, value] of Object.entries(data)) {
    const path = `meta_data.${key}`;
    const other = Object.hasOwn(others, key) ? others[key] : undefined;
    if (other !== undefined) report(path, `is set by another key: use ${other}`);
    else if (!/^[A-Za-z_][\w-]{0,63}$/.test(key)) {
      report('meta_data', `${quoted(key)} must be letters, digits, _ and -, at most 64`);
    }
    if (key === 'instance-id' && !/^[\w.-]{1,100}$/.test(value)) {
      report(path, 'must be letters, digits, ., _ and -, at most 100');
    }
  }
  return data;
}
