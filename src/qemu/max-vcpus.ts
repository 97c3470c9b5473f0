import * as v from 'valibot';

/** Arguments and input that make an emulator describe its machine types over QMP, and end. */
export const machineQuery = {
  args: ['-M', 'none', '-nodefaults', '-display', 'none', '-qmp', 'stdio'],
  stdin: ['qmp_capabilities', 'query-machines', 'quit']
    .map((command) => `{"execute":"${command}"}\n`)
    .join(''),
};

const answer = v.object({
  return: v.array(
    v.object({
      name: v.string(),
      alias: v.optional(v.string()),
      'cpu-max': v.pipe(v.number(), v.minValue(1)),
    }),
  ),
});

/** Maximum number of virtual CPUs by the machine's name, aliases included; empty where the output has no such answer. */
export function parseMaxVcpus(output: string): ReadonlyMap<string, number> {
  const machines = output.split('\n').flatMap((line) => {
    const parsed = v.safeParse(answer, json(line));
    return parsed.success ? parsed.output.return : [];
  });
  return new Map(
    machines.flatMap(({ name, alias, 'cpu-max': max }) =>
      [name, ...(alias === undefined ? [] : [alias])].map((it) => [it, max] as const),
    ),
  );
}

function json(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
