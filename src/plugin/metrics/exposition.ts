import { setImmediate as immediate } from 'node:timers/promises';
import { Counter, Gauge, type OpenMetricsContentType, Registry } from 'prom-client';
import type { DomainFigures } from '#vm';

type Labels = Readonly<Record<string, string>>;

/** Labels beside those of the task, and a value; undefined where it was not measured. */
type Sample = readonly [labels: Labels, value: number | undefined];

interface Family {
  readonly name: string;
  readonly help: string;
  readonly Metric: typeof Counter | typeof Gauge;
  samples(figures: DomainFigures): readonly Sample[];
}

const nanoseconds = 1e9;

const families: readonly Family[] = [
  counter('cpu_seconds', 'CPU time of the VM’s processes.', ({ usage }) => [
    [{ mode: 'user' }, usage.cpuUserNs / nanoseconds],
    [{ mode: 'system' }, usage.cpuSystemNs / nanoseconds],
  ]),
  counter('cpu_throttled_periods', 'Periods in which the CPU quota was used up.', ({ usage }) => [
    [{}, usage.throttling?.throttledPeriods],
  ]),
  counter('cpu_throttled_seconds', 'Time for which the CPU quota held it back.', ({ usage }) => [
    [{}, seconds(usage.throttling?.throttledNs)],
  ]),
  counter('vcpu_seconds', 'Time that a virtual processor ran.', ({ vcpus }) =>
    vcpus.map(({ index, runNs }) => [{ device: `vcpu${index}` }, runNs / nanoseconds]),
  ),
  counter('vcpu_steal_seconds', 'Time that it could have run and another thread did.', (it) =>
    it.vcpus.map(({ index, stealNs }) => [{ device: `vcpu${index}` }, stealNs / nanoseconds]),
  ),
  gauge('memory_rss_bytes', 'Memory of the VM’s processes.', ({ usage }) => [[{}, usage.rssBytes]]),
  gauge('memory_swap_bytes', 'Of that memory, what is swapped out.', ({ usage }) => [
    [{}, usage.swapBytes],
  ]),
  gauge('guest_memory_bytes', 'Memory as the guest reports it.', ({ guest }) => [
    [{ state: 'total' }, guest.totalBytes],
    [{ state: 'free' }, guest.freeBytes],
    [{ state: 'available' }, guest.availableBytes],
    [{ state: 'cache' }, guest.cacheBytes],
  ]),
  counter('guest_swap_bytes', 'What the guest has swapped.', ({ guest }) => [
    [{ direction: 'in' }, guest.swapInBytes],
    [{ direction: 'out' }, guest.swapOutBytes],
  ]),
  counter('guest_page_faults', 'Page faults of the guest.', ({ guest }) => [
    [{ kind: 'major' }, guest.majorFaults],
    [{ kind: 'minor' }, guest.minorFaults],
  ]),
  counter('disk_bytes', 'What was read from and written to a disk.', ({ disks }) =>
    disks.flatMap(({ name, readBytes, writtenBytes }): Sample[] => [
      [{ device: name, operation: 'read' }, readBytes],
      [{ device: name, operation: 'write' }, writtenBytes],
    ]),
  ),
  counter('disk_operations', 'Operations on a disk.', ({ disks }) =>
    disks.flatMap(({ name, reads, writes, flushes }): Sample[] => [
      [{ device: name, operation: 'read' }, reads],
      [{ device: name, operation: 'write' }, writes],
      [{ device: name, operation: 'flush' }, flushes],
    ]),
  ),
  counter('disk_errors', 'Operations on a disk that failed.', ({ disks }) =>
    disks.flatMap(({ name, readErrors, writeErrors }): Sample[] => [
      [{ device: name, operation: 'read' }, readErrors],
      [{ device: name, operation: 'write' }, writeErrors],
    ]),
  ),
  ...(['bytes', 'packets', 'errors', 'drops'] as const).map((what) =>
    counter(`network_${what}`, `${what} of an interface, as the guest sees them.`, ({ nics }) =>
      nics.flatMap(({ name, received, sent }): Sample[] => [
        [{ device: name, direction: 'received' }, received[what]],
        [{ device: name, direction: 'sent' }, sent[what]],
      ]),
    ),
  ),
];

export const contentType = Registry.OPENMETRICS_CONTENT_TYPE;

/** The figures of all VMs as OpenMetrics text, version 1.0, in UTF-8. */
export async function formatMetrics(all: readonly DomainFigures[]): Promise<Buffer> {
  // With 200 VMs there are seven thousand lines: collecting the garbage of one long text took longer than making it.
  const parts: Buffer[] = [];
  for (const family of families) {
    parts.push(Buffer.from(`${await formatFamily(family, all)}\n`));
    // Everything else that waits has its turn.
    await immediate();
  }
  return Buffer.concat([...parts, Buffer.from('# EOF\n')]);
}

/**
 * In a registry of its own. What prom-client counts itself can only be raised, and stays when the VM is gone; ours is read from
 * the kernel and QEMU, so only the values are replaced.
 */
function formatFamily(family: Family, all: readonly DomainFigures[]): Promise<string> {
  const { Metric, help } = family;
  const name = `nomad_vm_${family.name}`;
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(contentType);
  const metric = new Metric({ name, help, registers: [registry] });
  const described = metric.get();
  metric.get = async () => ({ ...(await described), values: valuesOf(family, all) });
  return registry.getSingleMetricAsString(name);
}

interface Value {
  readonly labels: Labels;
  /** prom-client formats each object of these once and keeps the text as long as the object. */
  readonly sharedLabels: Labels;
  readonly value: number;
}

const noLabels: Labels = {};

function valuesOf({ samples }: Family, all: readonly DomainFigures[]): Value[] {
  const values: Value[] = [];
  for (const figures of all) {
    for (const [own, value] of samples(figures)) {
      if (value === undefined) continue;
      values.push({ labels: noLabels, sharedLabels: labelsOf(figures, own), value });
    }
  }
  return values;
}

/** The same object for the same series as long as the VM lives. */
function labelsOf({ identity }: DomainFigures, own: Labels): Labels {
  const series = seriesOfVms.get(identity) ?? new Map<string, Labels>();
  seriesOfVms.set(identity, series);
  const key = JSON.stringify(own);
  const known = series.get(key);
  if (known !== undefined) return known;
  const { namespace, jobId: job, groupName: group, taskName: task, allocId: alloc } = identity;
  const labels = { namespace, job, group, task, alloc, ...own };
  series.set(key, labels);
  return labels;
}

const seriesOfVms = new WeakMap<DomainFigures['identity'], Map<string, Labels>>();

function counter(name: string, help: string, samples: Family['samples']): Family {
  return { name, help, Metric: Counter, samples };
}

function gauge(name: string, help: string, samples: Family['samples']): Family {
  return { name, help, Metric: Gauge, samples };
}

function seconds(ns: number | undefined): number | undefined {
  return ns === undefined ? undefined : ns / nanoseconds;
}
