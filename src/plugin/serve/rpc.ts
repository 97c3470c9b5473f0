import { once } from 'node:events';
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  Metadata,
  type Server,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type StatusObject,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Logger } from '#host';
import type { Waiting } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import { toStatus } from '../error/status.ts';

/** The call that a handler answers; its signal aborts when the client cancels or its connection breaks. */
export type Call = Waiting;

type Shapes<M> = M extends { readonly input: infer I; readonly output: infer O }
  ? I extends DescMessage
    ? O extends DescMessage
      ? { readonly request: MessageShape<I>; readonly response: MessageInitShape<O> }
      : never
    : never
  : never;

type Handler<M> = M extends { readonly methodKind: 'unary' }
  ? (
      request: Shapes<M>['request'],
      call: Call,
    ) => Shapes<M>['response'] | Promise<Shapes<M>['response']>
  : M extends { readonly methodKind: 'server_streaming' }
    ? (request: Shapes<M>['request'], call: Call) => AsyncIterable<Shapes<M>['response']>
    : (
        requests: AsyncIterable<Shapes<M>['request']>,
        call: Call,
      ) => AsyncIterable<Shapes<M>['response']>;

/** One typed function per method of a service, by the method's local name. */
export type Handlers<S extends { readonly method: object }> = {
  readonly [K in keyof S['method']]: Handler<S['method'][K]>;
};

/**
 * Serves a service. Bytes are decoded and encoded here, so that a malformed request is INVALID_ARGUMENT and an answer
 * that can't be encoded is an error of that call; everything a handler throws becomes a status, never a crash.
 */
export function serve<S extends DescService>(
  server: Server,
  service: S,
  { handlers, log }: { readonly handlers: Handlers<S>; readonly log: Logger },
): void {
  const definition: Record<string, ServiceDefinition[string]> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    // The mapped type above ties each name to its method; the loop can't see that.
    const handler = Reflect.get(handlers, method.localName) as AnyHandler;
    definition[method.localName] = {
      path: `/${service.typeName}/${method.name}`,
      requestStream: method.methodKind === 'bidi_streaming',
      responseStream: method.methodKind !== 'unary',
      requestSerialize: asBuffer,
      requestDeserialize: asBuffer,
      responseSerialize: asBuffer,
      responseDeserialize: asBuffer,
    };
    const context = { method, handler, log };
    implementation[method.localName] =
      method.methodKind === 'unary'
        ? answerUnary(context)
        : method.methodKind === 'server_streaming'
          ? answerStream(context)
          : answerBidi(context);
  }
  server.addService(definition, implementation);
}

type AnyHandler = (request: unknown, call: Call) => unknown;

interface Context {
  readonly method: DescMethod;
  readonly handler: AnyHandler;
  readonly log: Logger;
}

function answerUnary(context: Context) {
  return (
    call: ServerUnaryCall<Buffer, Buffer>,
    callback: (error: StatusObject | null, value?: Buffer) => void,
  ): void => {
    const signal = signalOf(call);
    const answer = async (): Promise<Buffer> =>
      encode(context, await context.handler(decode(context, call.request), { signal }));
    answer().then(
      (value) => callback(null, value),
      (error: unknown) => callback(failure(context, error, signal)),
    );
  };
}

function answerStream(context: Context) {
  return (call: ServerWritableStream<Buffer, Buffer>): void => {
    const signal = signalOf(call);
    const answer = async (): Promise<void> => {
      const messages = context.handler(decode(context, call.request), { signal });
      await pump(context, { call, messages, signal });
    };
    answer().then(
      () => call.end(),
      (error: unknown) => call.emit('error', failure(context, error, signal)),
    );
  };
}

function answerBidi(context: Context) {
  return (call: ServerDuplexStream<Buffer, Buffer>): void => {
    const signal = signalOf(call);
    const answer = async (): Promise<void> => {
      const messages = context.handler(incoming(context, call), { signal });
      await pump(context, { call, messages, signal });
    };
    answer().then(
      () => call.end(),
      (error: unknown) => call.emit('error', failure(context, error, signal)),
    );
  };
}

async function* incoming(
  context: Context,
  call: ServerDuplexStream<Buffer, Buffer>,
): AsyncGenerator<unknown> {
  for await (const bytes of call) yield decode(context, bytes);
}

interface Outgoing {
  readonly call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;
  readonly messages: unknown;
  readonly signal: AbortSignal;
}

async function pump(context: Context, { call, messages, signal }: Outgoing): Promise<void> {
  // What a streaming handler returns is an async iterable by its type.
  for await (const message of messages as AsyncIterable<unknown>) {
    if (signal.aborted) return;
    if (!call.write(encode(context, message))) await once(call, 'drain', { signal });
  }
}

function signalOf(call: {
  readonly cancelled: boolean;
  once(event: 'cancelled', listener: () => void): unknown;
}): AbortSignal {
  const controller = new AbortController();
  if (call.cancelled) controller.abort();
  else call.once('cancelled', () => controller.abort());
  return controller.signal;
}

function decode({ method }: Context, bytes: Uint8Array): unknown {
  try {
    return fromBinary(method.input, bytes);
  } catch (cause) {
    throw new PluginError('invalid', `${method.name}: the request can't be decoded`, { cause });
  }
}

function encode({ method }: Context, init: unknown): Buffer {
  // By the handler's type this is an init shape of the method's output.
  const message = create(method.output, init as MessageInitShape<DescMessage>);
  return asBuffer(toBinary(method.output, message));
}

function failure({ method, log }: Context, error: unknown, signal: AbortSignal): StatusObject {
  const status = toStatus(error);
  if (signal.aborted) log.debug('call ended by the client', { method: method.name });
  else if (error instanceof PluginError && !error.recoverable) {
    log.debug('call refused', { method: method.name, error: status.message });
  } else log.warn('call failed', { method: method.name, error });
  const metadata = new Metadata();
  if (status.details) metadata.set('grpc-status-details-bin', asBuffer(status.details));
  return { code: status.code, details: status.message, metadata };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
