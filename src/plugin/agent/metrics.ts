import { isLoopbackText, isPort, maxSocketPathBytes, quoted } from '#spec';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

export const metricsFields = {
  metrics: {
    kind: 'block',
    doc: 'Figures of all VMs for Prometheus, at a place of this host. Without the block there are none.',
    fields: {
      listen: {
        kind: 'attr',
        type: 'string',
        required: true,
        doc: 'Where it is served: `unix:` and an absolute path, a socket that only root may use, or a loopback address with a port, which every user of the host may.',
        example: '"127.0.0.1:9177"',
      },
    },
  },
} as const satisfies Fields;

/** Where figures are served. */
export type MetricsPlace =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

export function readMetrics(
  { metrics }: Decoded<typeof metricsFields>,
  report: Report,
): MetricsPlace | undefined {
  if (metrics === undefined) return undefined;
  const place = placeOf(metrics.listen);
  if (place === undefined) {
    const forms = '"unix:/run/nomad-driver-qmp.metrics.sock" or "127.0.0.1:9177"';
    report('metrics.listen', `${quoted(metrics.listen)} is no place on this host: write ${forms}`);
  }
  return place;
}

function placeOf(listen: string): MetricsPlace | undefined {
  const [, path] = /^unix:(\/[^\0]+)$/.exec(listen) ?? [];
  if (path !== undefined) {
    return Buffer.byteLength(path) > maxSocketPathBytes ? undefined : { kind: 'unix', path };
  }
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(listen) ?? [];
  const host = bracketed ?? plain ?? '';
  const port = Number(digits);
  return isLoopbackText(host) && isPort(port) ? { kind: 'tcp', host, port } : undefined;
}
