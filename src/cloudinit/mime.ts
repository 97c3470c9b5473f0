/** An e-mail message, as Python's email package finds it in a text. */
export interface Message {
  /** In lower case; text/plain where the message has no usable one. */
  readonly type: string;
  /** Of a multipart message, if it has one. */
  readonly boundary: string | undefined;
  /** Whether the body is encoded, for example in base64. */
  readonly encoded: boolean;
  readonly body: string;
  /** How many lines stand before the body. */
  readonly headLines: number;
}

// What cloud-init searches the beginning of a text for before it gives it to the e-mail package
// (user_data.convert_string).
const windowBytes = 4096;
const mark = 'mime-version:';

/** Whether cloud-init takes a text for an e-mail message: by the mark anywhere in its beginning. */
export function isMessage(text: string): boolean {
  const start = Buffer.from(text.slice(0, windowBytes)).subarray(0, windowBytes);
  return start.toString('latin1').toLowerCase().includes(mark);
}

/** Splits off the headers: all lines from the first on that have the form of one. The rest is the body. */
export function parseMessage(text: string): Message {
  const head: string[] = [];
  let at = 0;
  let line = takeLine(text, at);
  for (; headerLine.test(line); line = takeLine(text, at)) {
    head.push(line);
    at += line.length;
  }
  const blank = /^(?:\r\n|[\r\n])/.exec(line)?.[0] ?? '';
  const headers = head.join('').replace(/(?:\r\n|[\r\n])[ \t]+/g, ' ');
  const contentType = header(headers, 'content-type');
  return {
    type: typeOf(contentType),
    boundary: boundaryOf(contentType),
    encoded: encodings.test(header(headers, 'content-transfer-encoding')),
    body: text.slice(at + blank.length),
    headLines: head.length + (blank === '' ? 0 : 1),
  };
}

// email.feedparser.headerRE.
const headerLine = /^(?:From |[!-9;-~]*:|[\t ])/;
const encodings = /^\s*(?:base64|quoted-printable|x-uuencode|uuencode|uue|x-uue)\s*$/i;

function takeLine(text: string, at: number): string {
  const lines = /[^\r\n]*(?:\r\n|[\r\n])?/y;
  lines.lastIndex = at;
  return lines.exec(text)?.[0] ?? '';
}

function header(headers: string, name: string): string {
  return new RegExp(`^${name}:(.*)$`, 'im').exec(headers)?.[1] ?? '';
}

function typeOf(contentType: string): string {
  const type = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  return /^[^/]*\/[^/]*$/.test(type) ? type : 'text/plain';
}

function boundaryOf(contentType: string): string | undefined {
  const found = /;\s*boundary\s*=\s*(?:"([^"]*)"|([^;"]*))/i.exec(contentType);
  return found?.[1] ?? found?.[2]?.trim();
}
