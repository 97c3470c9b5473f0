import { extract, type Header } from 'tar-stream';
import { ImageError } from '../error.ts';

/** The blocks that describe one file: extended headers and long names with their content, and its header last. */
export type HeaderBlocks = readonly Uint8Array[];

export interface TarHeader {
  readonly name: string;
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isHardLink: boolean;
  readonly storedBytes: number;
}

/** Decodes the header of one file. Its content is never given to the decoder. Throws ImageError. */
export async function decodeHeader(blocks: HeaderBlocks): Promise<TarHeader> {
  const { name, type, size = 0 } = await entryOf(blocks);
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new ImageError('refused', 'a file in the archive has a size that is none or too large');
  }
  return {
    name,
    isFile: type === 'file' || type === 'contiguous-file',
    isDirectory: type === 'directory' || name.endsWith('/'),
    isHardLink: type === 'link',
    storedBytes: size,
  };
}

/**
 * A header without a mark is of the first tar programs; its checksum has to be right all the same. The type that the package
 * declares lacks the option.
 */
const options: Parameters<typeof extract>[0] & { readonly allowUnknownFormat: boolean } = {
  allowUnknownFormat: true,
};

function entryOf(blocks: HeaderBlocks): Promise<Header> {
  const { promise, resolve, reject } = Promise.withResolvers<Header>();
  const decoder = extract(options);
  decoder.on('entry', (header, content) => {
    content.on('error', () => undefined);
    resolve(header);
  });
  decoder.on('error', (error) => reject(damaged(error)));
  decoder.on('close', () => reject(damaged()));
  decoder.end(Buffer.concat(blocks));
  return promise.finally(() => decoder.destroy(null));
}

function damaged(cause?: unknown): ImageError {
  return new ImageError('refused', 'the archive is damaged: a header in it is not valid', {
    cause,
  });
}

/** The records of an extended header in their order, repeated ones included; what is no record ends them. */
export function paxRecords(content: Uint8Array): readonly (readonly [string, string])[] {
  const records: (readonly [string, string])[] = [];
  const bytes = Buffer.from(content);
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(/^\d{1,9}$/.exec(bytes.toString('latin1', at, Math.max(at, space)))?.[0]);
    if (!(length > space - at + 2) || at + length > bytes.length) break;
    const record = bytes.toString('utf8', space + 1, at + length - 1);
    const equals = record.indexOf('=');
    if (equals > 0) records.push([record.slice(0, equals), record.slice(equals + 1)]);
    at += length;
  }
  return records;
}
