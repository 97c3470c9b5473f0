import { yamlShape } from './yaml.ts';

const version = /(?:^|[{,\s])(["']?)version\1\s*:\s*(["']?)[12]\2\s*(?:[,}#]|$)/m;

/** Why cloud-init could not use a network configuration that a job brings, a sentence each. */
export function checkNetworkConfig(text: string): readonly string[] {
  const { kind, line, problems } = yamlShape(text);
  if (problems.length > 0) return problems;
  if (kind !== 'mapping') {
    return [
      `line ${line}: a network configuration must be a mapping of keys to values, not ${kind}`,
    ];
  }
  return version.test(text) ? [] : ['it has neither "version: 1" nor "version: 2"'];
}
