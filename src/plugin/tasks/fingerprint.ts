import type { MessageInitShape } from '@bufbuild/protobuf';
import { abortable, type Logger, slept, within } from '#host';
import type { StoragePools, Waiting } from '#spec';
import type { VirtualizerInfo } from '#vm';
import { builtinName } from '../agent/builtin-lists.ts';
import { messageOf } from '../error/message.ts';
import {
  FingerprintResponse_HealthState,
  type FingerprintResponseSchema,
} from '../gen/driver_pb.ts';
import type { AttributeSchema } from '../gen/structs_pb.ts';
import type { BackendHolder } from './backend.ts';

type Response = MessageInitShape<typeof FingerprintResponseSchema>;
type Attribute = MessageInitShape<typeof AttributeSchema>;

/** Everything the node can be sent of this driver. */
interface Report {
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly health: FingerprintResponse_HealthState;
  readonly healthDescription: string;
}

/** Whatever the driver is called: jobs for nomad-driver-virt have these in their constraints. */
const attributePrefix = 'driver.virt';

/** An examination of the host that takes longer is reported as a problem and repeated. */
const examineMs = 15_000;

/**
 * Reports this driver to the node: at once, and then whenever an examination of the host has another result. An attribute
 * that is gone is sent once more, as empty text in the next message: that makes Nomad remove it.
 */
export class Fingerprinter {
  readonly #driverName: string;
  readonly #backend: BackendHolder;
  readonly #log: Logger;
  readonly #periodMs: number;
  /** Attributes that streams sent and none has cleared: the reader of the next stream may have them. */
  readonly #sent = new Set<string>();
  /** Of the last examination that succeeded; a failing one changes the health, not the attributes. */
  #attributes: VirtualizerInfo['attributes'] = {};
  /** The problem logged last; each is one line, however long it lasts. */
  #problem = '';
  #detected = false;

  constructor(options: {
    readonly driverName: string;
    readonly backend: BackendHolder;
    readonly log: Logger;
    readonly periodMs: number;
  }) {
    this.#driverName = options.driverName;
    this.#backend = options.backend;
    this.#log = options.log;
    this.#periodMs = options.periodMs;
  }

  /** Ends only when the signal aborts: Nomad would reopen an ended stream in a hot loop. */
  async *stream({ signal }: Waiting): AsyncGenerator<Response> {
    let last = '';
    // What the reader of this stream may have.
    let known: readonly string[] = [...this.#sent];
    let gone: readonly string[] = [];
    do {
      const report = this.#report(await this.#examine(signal));
      if (signal.aborted) return;
      // The stream survived a full period, so the message that cleared these attributes was delivered. Otherwise the next
      // stream clears them again.
      for (const key of gone) if (!has(report, key)) this.#sent.delete(key);
      gone = [];
      const now = JSON.stringify(report, (_key, value: unknown) =>
        typeof value === 'bigint' ? value.toString() : value,
      );
      if (now === last) continue;
      last = now;
      gone = known.filter((key) => !has(report, key));
      known = Object.keys(report.attributes);
      for (const key of known) this.#sent.add(key);
      this.#log.info('fingerprint', { health: report.healthDescription });
      yield { ...report, attributes: { ...report.attributes, ...cleared(gone) } };
    } while (await slept(this.#periodMs, { signal }));
  }

  async #examine(signal: AbortSignal): Promise<VirtualizerInfo> {
    using limited = within(examineMs, { signal });
    try {
      const backend = await abortable(this.#backend.get(), limited);
      const info = await abortable(backend.getInfo(limited), limited);
      this.#attributes = info.attributes;
      this.#problem = '';
      return info;
    } catch (error) {
      const description = limited.signal.aborted
        ? `examining this host took longer than ${examineMs / 1000} s`
        : messageOf(error);
      if (!signal.aborted && description !== this.#problem) {
        this.#log.warn('the host cannot be examined', { error });
      }
      this.#problem = description;
      return { healthy: false, detected: true, description, attributes: this.#attributes };
    }
  }

  #report(info: VirtualizerInfo): Report {
    const attributes: Record<string, Attribute> = {};
    if (info.detected) {
      attributes[`driver.${this.#driverName}`] = toAttribute(true);
      if (this.#driverName === builtinName)
        Object.assign(attributes, this.#builtinAttributes(info));
      const pools = poolAttributes(this.#backend.config.storagePools);
      for (const [key, value] of Object.entries({ ...pools, ...info.attributes })) {
        attributes[`${attributePrefix}.${key}`] = toAttribute(value);
      }
    }
    const sorted = Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      attributes: Object.fromEntries(sorted),
      health: this.#healthOf(info),
      healthDescription: info.description,
    };
  }

  /** What jobs for the builtin driver have in their constraints. */
  #builtinAttributes({ attributes }: VirtualizerInfo): Readonly<Record<string, Attribute>> {
    const { 'emulator.version.readable': version = '', 'emulator.archs': archs = '' } = attributes;
    const { emulators: allowed } = this.#backend.config.builtin;
    const emulators = String(archs)
      .split(',')
      .filter((arch) => allowed.length === 0 || allowed.includes(arch));
    return {
      [`driver.${builtinName}.version`]: toAttribute(version),
      [`driver.${builtinName}.emulators`]: toAttribute(emulators.join(',')),
    };
  }

  /** Unhealthy when an emulator was here and is gone; undetected when there never was one. */
  #healthOf(info: VirtualizerInfo): FingerprintResponse_HealthState {
    this.#detected ||= info.detected;
    if (!this.#detected) return FingerprintResponse_HealthState.UNDETECTED;
    if (info.detected && info.healthy) return FingerprintResponse_HealthState.HEALTHY;
    return FingerprintResponse_HealthState.UNHEALTHY;
  }
}

/** What jobs for libvirt drivers have in their constraints. */
function poolAttributes({
  pools,
  default: defaultName,
}: StoragePools): VirtualizerInfo['attributes'] {
  return Object.fromEntries(
    pools.flatMap(({ kind, name }) => [
      [`storage_pool.${name}`, kind],
      [`storage_pool.${name}.provider.libvirt`, true],
      ...(name === defaultName ? [[`storage_pool.${name}.default`, true]] : []),
    ]),
  );
}

function has({ attributes }: Report, key: string): boolean {
  return Object.hasOwn(attributes, key);
}

function cleared(keys: readonly string[]): Record<string, Attribute> {
  return Object.fromEntries(keys.map((key) => [key, toAttribute('')]));
}

function toAttribute(value: string | number | boolean): Attribute {
  switch (typeof value) {
    case 'string':
      return { value: { case: 'stringVal', value } };
    case 'boolean':
      return { value: { case: 'boolVal', value } };
    default:
      return Number.isSafeInteger(value)
        ? { value: { case: 'intVal', value: BigInt(value) } }
        : { value: { case: 'floatVal', value } };
  }
}
