import { formatEnvFile } from './env-file.ts';
import { CloudInitError } from './error.ts';
import { formatJsonYaml, type Plain } from './json-yaml.ts';
import { networkConfig } from './network-config.ts';
import { assertRepresentable, type SeedRequest } from './seed-request.ts';
import { checkUserData } from './user-data.ts';
import { vendorData } from './vendor-data.ts';

/**
 * The files of a NoCloud seed by name: meta-data, user-data, vendor-data and, when the request names interfaces,
 * network-config. The same request gives the same bytes.
 *
 * Throws CloudInitError: `user-data` with every problem checkUserData finds, `seed` for a value no guest could take.
 */
export function buildSeed(request: SeedRequest): ReadonlyMap<string, Uint8Array> {
  const userData = request.userData ?? '';
  const problems = checkUserData(userData);
  if (problems.length > 0) {
    throw new CloudInitError('user-data', `user data: ${problems.join('; ')}`);
  }
  assertRepresentable(request);
  const files = new Map<string, string>([
    [
      'meta-data',
      `${formatJsonYaml({ 'instance-id': request.instanceId, 'local-hostname': request.hostname })}\n`,
    ],
    ['user-data', userData.trim() === '' ? cloudConfig({}) : userData],
    ['vendor-data', cloudConfig(vendorData(request))],
  ]);
  if (request.network !== undefined && request.network.length > 0) {
    files.set('network-config', `${formatJsonYaml(networkConfig(request.network))}\n`);
  }
  const encoder = new TextEncoder();
  return new Map([...files].map(([name, text]) => [name, encoder.encode(text)]));
}

/** What of a request its seed leaves out, a sentence each; for the log, not a failure. */
export function seedNotes(request: SeedRequest): readonly string[] {
  return formatEnvFile(request.env).notes;
}

function cloudConfig(config: Plain): string {
  return `#cloud-config\n${formatJsonYaml(config)}\n`;
}
