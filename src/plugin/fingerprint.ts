import type { MessageInitShape } from '@bufbuild/protobuf';
import { abortable, type Logger, slept, type Waiting, within } from '#host';
import type { VirtualizerInfo } from '#vm';
import type { BackendHolder } from './backend.ts';
import {
  FingerprintResponse_HealthState,
  type FingerprintResponseSchema,
} from './gen/driver_pb.ts';
import type { AttributeSchema } from './gen/structs_pb.ts';
import { messageOf } from './status.ts';

type Response = MessageInitShape<typeof FingerprintResponseSchema>;
type Attribute = MessageInitShape<typeof AttributeSchema>;

/** All there is to tell, whoever was told what. */
interface Picture {
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly health: FingerprintResponse_HealthState;
  readonly healthDescription: string;
}

/** A look at the host that takes longer is reported as trouble and tried again. */
const lookMs = 15_000;

/**
 * What the node is told of this driver: at once, and then whenever a look at the host gives another answer. An attribute
 * that is gone is told once more, as empty text in the very next message: that is how Nomad forgets it.
 */
export class Fingerprinter {
  readonly #driverName: string;
  readonly #backend: BackendHolder;
  readonly #log: Logger;
  readonly #periodMs: number;
  /** Attributes that streams told and none has cleared: what the reader of the next stream may know already. */
  readonly #told = new Set<string>();
  /** Of the last look that gave an answer; a failing one changes health, not what the node has. */
  #attributes: VirtualizerInfo['attributes'] = {};
  /** What the log was told last; each trouble is one line, however long it lasts. */
  #trouble = '';
  #detected = false;

  constructor(o: {
    readonly driverName: string;
    readonly backend: BackendHolder;
    readonly log: Logger;
    readonly periodMs: number;
  }) {
    this.#driverName = o.driverName;
    this.#backend = o.backend;
    this.#log = o.log;
    this.#periodMs = o.periodMs;
  }

  /** Ends only when the signal aborts: Nomad would reopen an ended stream in a hot loop. */
  async *stream({ signal }: Waiting): AsyncGenerator<Response> {
    let last = '';
    // What the reader of this stream may have.
    let known: readonly string[] = [...this.#told];
    let gone: readonly string[] = [];
    do {
      const picture = this.#picture(await this.#look(signal));
      if (signal.aborted) return;
      // A whole period later the stream is still read, so what cleared them was. Else the next stream clears them again.
      for (const key of gone) if (!has(picture, key)) this.#told.delete(key);
      gone = [];
      const now = JSON.stringify(picture, (_key, value: unknown) =>
        typeof value === 'bigint' ? value.toString() : value,
      );
      if (now === last) continue;
      last = now;
      gone = known.filter((key) => !has(picture, key));
      known = Object.keys(picture.attributes);
      for (const key of known) this.#told.add(key);
      this.#log.info('fingerprint', { health: picture.healthDescription });
      yield { ...picture, attributes: { ...picture.attributes, ...cleared(gone) } };
    } while (await slept(this.#periodMs, { signal }));
  }

  async #look(signal: AbortSignal): Promise<VirtualizerInfo> {
    using limited = within(lookMs, { signal });
    try {
      const backend = await abortable(this.#backend.get(), limited);
      const info = await abortable(backend.getInfo(limited), limited);
      this.#attributes = info.attributes;
      this.#trouble = '';
      return info;
    } catch (error) {
      const description = limited.signal.aborted
        ? `examining this host took longer than ${lookMs / 1000} s`
        : messageOf(error);
      if (!signal.aborted && description !== this.#trouble) {
        this.#log.warn('the host cannot be examined', { error });
      }
      this.#trouble = description;
      return { healthy: false, detected: true, description, attributes: this.#attributes };
    }
  }

  #picture(info: VirtualizerInfo): Picture {
    const attributes: Record<string, Attribute> = {};
    if (info.detected) {
      const prefix = `driver.${this.#driverName}`;
      attributes[prefix] = toAttribute(true);
      for (const [key, value] of Object.entries(info.attributes)) {
        attributes[`${prefix}.${key}`] = toAttribute(value);
      }
    }
    const sorted = Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      attributes: Object.fromEntries(sorted),
      health: this.#healthOf(info),
      healthDescription: info.description,
    };
  }

  /** An emulator that was here and is gone is trouble; one that never was is simply not there. */
  #healthOf(info: VirtualizerInfo): FingerprintResponse_HealthState {
    this.#detected ||= info.detected;
    if (!this.#detected) return FingerprintResponse_HealthState.UNDETECTED;
    if (info.detected && info.healthy) return FingerprintResponse_HealthState.HEALTHY;
    return FingerprintResponse_HealthState.UNHEALTHY;
  }
}

function has({ attributes }: Picture, key: string): boolean {
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
