import { gunzipSync } from 'node:zlib';

/** Maximum size of user data, as a file and unpacked. Written by hand it is far smaller. */
const maxBytes = 1024 * 1024;

/** A text, or the bytes of a file, which may be gzip-compressed: cloud-init unpacks it. */
export type UserData = string | Uint8Array;

/** User data as cloud-init reads it, or why it can't be read. */
export type UserDataText = { readonly text: string } | { readonly problem: string };

export function userDataText(userData: UserData): UserDataText {
  const size = Buffer.byteLength(userData);
  if (size > maxBytes) return { problem: `it is ${size} bytes long; the maximum is ${maxBytes}` };
  const read = typeof userData === 'string' ? { text: userData } : readBytes(userData);
  if ('problem' in read) return read;
  const nul = read.text.indexOf('\0');
  if (nul >= 0) {
    return { problem: `line ${read.text.slice(0, nul).split('\n').length}: a NUL byte` };
  }
  return read.text.isWellFormed() ? read : { problem: 'it is not valid Unicode' };
}

function readBytes(bytes: Uint8Array): UserDataText {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return decode(bytes);
  try {
    return decode(gunzipSync(bytes, { maxOutputLength: maxBytes }));
  } catch (error) {
    if (error instanceof RangeError) {
      return { problem: `it is gzip-compressed and unpacks to more than ${maxBytes} bytes` };
    }
    const reason = error instanceof Error ? error.message : String(error);
    return { problem: `it is gzip-compressed and cannot be unpacked: ${reason}` };
  }
}

function decode(bytes: Uint8Array): UserDataText {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { problem: 'it is not UTF-8 text' };
  }
}
