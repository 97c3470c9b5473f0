import { ImageError } from '../error.ts';

/** A number of at most 2^53 in decimal digits and nothing else. */
export function decimal(text: string): number {
  return checked(/^\d{1,20}$/.test(text) ? Number(text) : Number.NaN);
}

/** A number of a tar header: octal digits, or a binary number that begins with 0x80. */
export function tarNumber(field: Uint8Array): number {
  if (field[0] === 0x80) {
    return checked(field.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0));
  }
  const text = Buffer.from(field)
    .toString('latin1')
    .replace(/[\0 ].*$/s, '');
  const digits = text === '' ? Buffer.from(field).toString('latin1').trim() : text;
  return checked(/^[0-7\0 ]*$/.test(digits) ? Number.parseInt(`0${digits}`, 8) : Number.NaN);
}

function checked(number: number): number {
  if (Number.isSafeInteger(number)) return number;
  throw new ImageError('refused', 'the archive has a number that is none or too large');
}
