import { join, resolve } from 'node:path';
import { build } from './build.ts';
import { runNomadTests } from './nomad-tests.ts';
import { PhaseError, phase } from './phases.ts';
import { agentOf, otherVersions } from './setup/nomad-agent.ts';

// npm run test:versions             the small part of test/nomad that depends on Nomad, with every version of test/nomad/versions
// npm run test:versions -- 1.8.0    with these only
//
// An agent is built once for each version: some minutes of CPU and 2 GB of modules. Not in CI for that reason.

/** Jobs of each driver name, with ports, groups, crashes of the plugin and of the agent, and refused plugin blocks. Jobs of later releases need Nomad 1.10. */
const only =
  '^(TestJobRunsLogsAndStops|TestP37_PluginKilled|TestPortsOfAGuest|TestV1_TwoNames|TestV136_TakesTheBuiltinDriversPlace|TestV136_ArgsAreRead|TestV134_FirstGeneration|TestP16_RefusedPluginBlock|TestV125_BridgeModeSix)$';

const root = resolve(import.meta.dirname, '..');

async function main(wanted: readonly string[]): Promise<void> {
  const known = otherVersions();
  const unknown = wanted.filter((version) => !known.has(version));
  if (unknown.length > 0) {
    throw new PhaseError(
      `${unknown.join(', ')} not known; there are ${[...known.keys()].join(', ')}`,
    );
  }
  if (process.getuid?.() !== 0) throw new PhaseError('the tests of Nomad agents need root');
  const plugin = await phase('build the executable', () => build());
  const wrapper = [join(root, 'scripts/isolated.sh')];
  for (const [version, module] of known) {
    if (wanted.length > 0 && !wanted.includes(version)) continue;
    const agent = await phase(`build the agent of Nomad ${version}`, () => agentOf(module));
    console.log(`\nNomad ${version}`);
    const { fail } = await runNomadTests({ plugin, wrapper, only, agent });
    if (fail > 0) process.exitCode = 1;
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof PhaseError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
