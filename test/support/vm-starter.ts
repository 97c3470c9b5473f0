// A process that starts one VM and is there to be killed: argv[2] is {options, spec} as JSON. It says `ready`, waits for
// a line on stdin, starts the VM and says its record as JSON; then it starts the commands in the guest that it is sent. It
// ends with its stdin.
import { findEmulators } from '#qemu';
import { QemuVirtualizer } from '#vm';
import { collect, soon } from './vm.ts';

const { options, spec } = JSON.parse(process.argv[2] ?? '');
const virtualizer = QemuVirtualizer.create({ ...options, log: collect([]) });
await findEmulators(soon());
process.stdout.write('ready\n');
process.stdin.once('data', async () => {
  try {
    const domain = await virtualizer.createDomain(spec, soon());
    process.stdout.write(`${JSON.stringify({ record: domain.record })}\n`);
    // Each further line is a command for the guest, and whether it has a terminal.
    process.stdin.on('data', async (lines: Buffer) => {
      for (const line of lines.toString().trim().split('\n')) {
        const request = { ...JSON.parse(line), env: {} };
        await domain.exec(request, soon());
        process.stdout.write('{}\n');
      }
    });
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: String(error) })}\n`);
  }
});
process.stdin.once('end', () => process.exit());
