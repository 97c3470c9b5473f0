import { inTurns } from '#host';
import type { DomainFigures } from '#vm';

/** Labels beside those of the task, as text, and a value; undefined where it was not measured. */
type Sample = readonly [labels: string, value: number | undefined];

interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  samples(figures: DomainFigures): readonly Sample[];
}

const nanoseconds = 1e9;

const families: readonly Family[] = [
  counter('cpu_seconds', 'CPU time of the VM’s processes.', ({ usage }) => [
    [',mode="user"', usage.cpuUserNs / nanoseconds],
    [',mode="system"', usage.cpuSystemNs / nanoseconds],
  ]),
  counter('cpu_throttled_periods', 'Periods in which the CPU quota was used up.', ({ usage }) => [
    ['', usage.throttling?.throttledPeriods],
  ]),
  counter('cpu_throttled_seconds', 'Time for which the CPU quota held it back.', ({ usage }) => [
    ['', seconds(usage.throttling?.throttledNs)],
  ]),
  counter('vcpu_seconds', 'Time that a virtual processor ran.', ({ vcpus }) =>
    vcpus.map(({ index, runNs }) => [`,device="vcpu${index}"`, runNs / nanoseconds]),
  ),
  counter('vcpu_steal_seconds', 'Time that it could have run and another thread did.', (it) =>
    it.vcpus.map(({ index, stealNs }) => [`,device="vcpu${index}"`, stealNs / nanoseconds]),
  ),
  gauge('memory_rss_bytes', 'Memory of the VM’s processes.', ({ usage }) => [['', usage.rssBytes]]),
  gauge('memory_swap_bytes', 'Of that memory, what is swapped out.', ({ usage }) => [
    ['', usage.swapBytes],
  ]),
  gauge('guest_memory_bytes', 'Memory as the guest reports it.', ({ guest }) => [
    [',state="total"', guest.totalBytes],
    [',state="free"', guest.freeBytes],
    [',state="available"', guest.availableBytes],
    [',state="cache"', guest.cacheBytes],
  ]),
  counter('guest_swap_bytes', 'What the guest has swapped.', ({ guest }) => [
    [',direction="in"', guest.swapInBytes],
    [',direction="out"', guest.swapOutBytes],
  ]),
  counter('guest_page_faults', 'Page faults of the guest.', ({ guest }) => [
    [',kind="major"', guest.majorFaults],
    [',kind="minor"', guest.minorFaults],
  ]),
  counter('disk_bytes', 'What was read from and written to a disk.', ({ disks }) =>
    disks.flatMap(({ name, readBytes, writtenBytes }): Sample[] => [
      [`${device(name)},operation="read"`, readBytes],
      [`${device(name)},operation="write"`, writtenBytes],
    ]),
  ),
  counter('disk_operations', 'Operations on a disk.', ({ disks }) =>
    disks.flatMap(({ name, reads, writes, flushes }): Sample[] => [
      [`${device(name)},operation="read"`, reads],
      [`${device(name)},operation="write"`, writes],
      [`${device(name)},operation="flush"`, flushes],
    ]),
  ),
  counter('disk_errors', 'Operations on a disk that failed.', ({ disks }) =>
    disks.flatMap(({ name, readErrors, writeErrors }): Sample[] => [
      [`${device(name)},operation="read"`, readErrors],
      [`${device(name)},operation="write"`, writeErrors],
    ]),
  ),
  ...(['bytes', 'packets', 'errors', 'drops'] as const).map((what) =>
    counter(`network_${what}`, `${what} of an interface, as the guest sees them.`, ({ nics }) =>
      nics.flatMap(({ name, received, sent }): Sample[] => [
        [`${device(name)},direction="received"`, received[what]],
        [`${device(name)},direction="sent"`, sent[what]],
      ]),
    ),
  ),
];

/** The figures of all VMs as OpenMetrics text, version 1.0, in UTF-8. */
export async function formatMetrics(all: readonly DomainFigures[]): Promise<Buffer> {
  const labelled = all.map((figures) => ({ figures, own: labelsOf(figures) }));
  // With 200 VMs there are seven thousand lines: collecting the garbage of one long text took longer than making it.
  const parts: Buffer[] = [];
  await inTurns(families, 1, (family) => parts.push(Buffer.from(formatFamily(family, labelled))));
  return Buffer.concat([...parts, Buffer.from('# EOF\n')]);
}

interface Labelled {
  readonly figures: DomainFigures;
  readonly own: string;
}

function formatFamily({ name, type, help, samples }: Family, all: readonly Labelled[]): string {
  let text = `# TYPE nomad_vm_${name} ${type}\n# HELP nomad_vm_${name} ${help}\n`;
  const sampleName = `nomad_vm_${name}${type === 'counter' ? '_total' : ''}`;
  for (const { figures, own } of all) {
    for (const [labels, value] of samples(figures)) {
      if (value !== undefined) text += `${sampleName}{${own}${labels}} ${value}\n`;
    }
  }
  return text;
}

/** Without the first comma. Made once for each VM: the text of 200 VMs has seven thousand lines. */
function labelsOf({ identity }: DomainFigures): string {
  const { namespace, jobId: job, groupName: group, taskName: task, allocId: alloc } = identity;
  const known =
    labelsOfVms.get(identity) ?? format({ namespace, job, group, task, alloc }).slice(1);
  labelsOfVms.set(identity, known);
  return known;
}

const labelsOfVms = new WeakMap<DomainFigures['identity'], string>();

function device(name: string): string {
  return format({ device: name });
}

/** Each with a comma before it. */
function format(labels: Readonly<Record<string, string>>): string {
  let text = '';
  for (const name in labels) text += `,${name}="${(labels[name] ?? '').replace(special, escaped)}"`;
  return text;
}

const special = /["\\\n]/g;

function escaped(character: string): string {
  return character === '\n' ? '\\n' : `\\${character}`;
}

function counter(name: string, help: string, samples: Family['samples']): Family {
  return { name, type: 'counter', help, samples };
}

function gauge(name: string, help: string, samples: Family['samples']): Family {
  return { name, type: 'gauge', help, samples };
}

function seconds(ns: number | undefined): number | undefined {
  return ns === undefined ? undefined : ns / nanoseconds;
}
