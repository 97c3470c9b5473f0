import { formatEnvFile } from './env-file.ts';
import { CloudInitError } from './error.ts';
import { writeIso } from './iso9660.ts';
import { formatJsonYaml, type Plain } from './json-yaml.ts';
import { networkConfig } from './network-config.ts';
import { authorizedKeys, instanceIdOf, type SeedRequest, seedProblems } from './seed-request.ts';
import { vendorData } from './vendor-data.ts';

/**
 * The files of a NoCloud seed by name: meta-data, user-data, vendor-data and, when the request names interfaces,
 * network-config. The same request gives the same bytes. The user data goes in unchanged: checking it may take any time
 * and is left to the caller. Throws CloudInitError for a value that no guest could use.
 */
export function buildSeed(request: SeedRequest): ReadonlyMap<string, Uint8Array> {
  const problems = seedProblems(request);
  if (problems.length > 0) {
    const list = problems.map(({ field, text }) => `${field}: ${text}`).join('; ');
    throw new CloudInitError(`the seed cannot be made: ${list}`);
  }
  const files = new Map<string, string | Uint8Array>([
    ['meta-data', `${formatJsonYaml(metaData(request))}\n`],
    ['user-data', userDataFile(request)],
    ['vendor-data', cloudConfig(vendorData(request))],
  ]);
  if (request.networkConfig !== undefined) {
    files.set('network-config', request.networkConfig);
  } else if (request.network !== undefined && request.network.length > 0) {
    files.set('network-config', `${formatJsonYaml(networkConfig(request.network))}\n`);
  }
  return new Map([...files].map(([name, content]) => [name, Buffer.from(content)]));
}

/** Readers without vendor data, such as tiny-cloud, cloudbase-init and coreos-cloudinit, have the keys from here. */
function metaData(request: SeedRequest): Plain {
  const keys = authorizedKeys(request);
  return {
    'instance-id': instanceIdOf(request),
    'local-hostname': request.hostname,
    ...request.metaData,
    ...(keys.length > 0 && { 'public-keys': keys }),
  };
}

/** A seed as a disc, and what of the request it leaves out. */
export interface SeedImage {
  readonly iso: Uint8Array<ArrayBuffer>;
  readonly notes: readonly string[];
}

const maxNotes = 10;

/** The disc that cloud-init searches for. Throws as buildSeed does. */
export function makeSeedImage(request: SeedRequest): SeedImage {
  const notes = seedNotes(request);
  const more = notes.length - maxNotes;
  return {
    iso: writeIso(buildSeed(request), { label: 'cidata' }),
    notes: more <= 0 ? notes : [...notes.slice(0, maxNotes), `and ${more} more left out`],
  };
}

/** The user data unchanged. cloud-init requires the file; a blank one becomes an empty cloud-config. */
function userDataFile({ userData = '' }: SeedRequest): string | Uint8Array {
  const blank = Buffer.from(userData).toString('latin1').trim() === '';
  return blank ? cloudConfig({}) : userData;
}

/** What the seed leaves out of a request, a sentence each; for the log, not a failure. */
export function seedNotes(request: SeedRequest): readonly string[] {
  return formatEnvFile(request.env).notes;
}

function cloudConfig(config: Plain): string {
  return `#cloud-config\n${formatJsonYaml(config)}\n`;
}
