import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { checkUserData } from '../../src/cloudinit/user-data.ts';
import { text } from './request.ts';

const mime = [
  'Content-Type: multipart/mixed; boundary="=="',
  'MIME-Version: 1.0',
  '',
  '--==',
  'Content-Type: text/x-shellscript',
  '',
  '#!/bin/sh',
  '--==--',
  '',
].join('\n');

const fine: Readonly<Record<string, string>> = {
  'no text at all': '',
  'blank lines': ' \n\t\n',
  'a bare header': '#cloud-config',
  'a header and comments': '#cloud-config\n# nothing yet\n',
  'cloud-config': '#cloud-config\npackages:\n  - nginx\n',
  'cloud-config with Windows line ends': '#cloud-config\r\npackages:\r\n  - nginx\r\n',
  'cloud-config below blank lines': '\n\n#cloud-config\na: 1\n',
  'a key written twice, which cloud-init takes': '#cloud-config\na: 1\na: 2\n',
  'a document with its marks': '#cloud-config\n---\na: 1\n...\n',
  anchors: '#cloud-config\na: &x [1]\nb: *x\n',
  'tabs in a block': '#cloud-config\na: |\n  x\ty\n  \tz\n\n  e\nb: 1\n',
  'tabs in quotes': "#cloud-config\na: \"x\ty\"\nb: 'it''s\tx\n  \ty'\n",
  'tabs in comments': '#cloud-config\n#\tx\na: 1 #\ty\n  #\tz\n',
  'tabs after an apostrophe that begins a line of an unquoted text':
    "#cloud-config\na: b\n  'tis\nc: 'x\ty'\n",
  'a script': '#!/bin/sh\necho hi\n',
  'a script for Windows': '#ps1_sysnative\r\nWrite-Host hi\r\n',
  'a script for Alpine': '#alpine-config\npackages: [nginx]\n',
  'Ignition for Flatcar': '{"ignition":{"version":"3.3.0"},"storage":{}}',
  'Ignition with its version further down':
    '{\n "storage": {},\n "ignition": { "version": "3.4.0" }\n}\n',
  'a machine config of Talos': 'version: v1alpha1\ndebug: false\nmachine:\n  type: worker\n',
  'a machine config of Talos in several documents':
    '# made by talosctl\nversion: v1alpha1\nmachine: {}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\n',
  'a document of Talos alone': 'apiVersion: v1alpha1\nkind: KmsgLogConfig\nname: x\n',
  'a batch file for Windows': 'rem cmd\necho hi\n',
  'a script with Windows line ends, which cloud-init mends': '#!/bin/sh\r\necho hi\r\n',
  'an include': '#include\nhttps://example/one\n',
  'an include on the same line': '#include https://example/one',
  'a boothook': '#cloud-boothook\n#!/bin/sh\n',
  'a part handler': '#part-handler\ndef list_types(): pass\n',
  'an archive': '#cloud-config-archive\n- type: text/cloud-config\n  content: "a: 1"\n',
  'a patch': '#cloud-config-jsonp [{"op":"add","path":"/a","value":1}]',
  'a template': '## template: jinja\n#cloud-config\n{% if x %}a: b{% endif %}\n',
  'a template that begins with a block':
    '## template: jinja\n{% set x = 1 %}\n#cloud-config\na: 1\n',
  'a template with Windows line ends': '## Template: Jinja\r\n#cloud-config\r\na: {{ x }}\r\n',
  'cloud-config with the line ends of old Macs': '#cloud-config\ra: 1\r',
  'a MIME message': mime,
  'a MIME message of mboxes': `From me\n${mime}`,
  'a MIME message with blanks around its =': mime.replace('boundary="=="', 'boundary = "=="'),
  'a MIME message with another parameter': mime.replace('boundary', 'x=y;\n boundary'),
  'a MIME message without a blank line below its headers': mime.replace('\n\n', '\n'),
  'a MIME message without a type': 'MIME-Version: 1.0\n\n#!/bin/sh\n',
  'a MIME message of one part': 'MIME-Version: 1.0\nContent-Type: text/cloud-config\n\na: 1\n',
  'a MIME message of one packed part':
    'MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nIyEvYmluL3NoCg==\n',
  'a script that sends mail': "#!/bin/sh\nsendmail <<'E'\nMIME-Version: 1.0\nE\n",
  'cloud-config that holds a mail': '#cloud-config\na: |\n  MIME-Version: 1.0\n  To: x\n',
  'a template that holds a mail': '## template: jinja\n#cloud-config\na: "mime-version: {{ x }}"\n',
  'letters that survive beside a mail': '#cloud-config\na: "MIME-Version: €"\n',
  'letters of any kind far above a mail': `#cloud-config\na: é\nb: "${'x'.repeat(4096)}MIME-Version: 1"\n`,
  'a MIME message with Windows line ends': mime.replaceAll('\n', '\r\n'),
};
for (const [name, given] of Object.entries(fine)) {
  test(`V-61: accepted: ${name}`, () => assert.deepEqual(checkUserData(given), []));
}

const wrong: Readonly<Record<string, readonly [string, RegExp]>> = {
  'cloud-config without its header': [
    'packages:\n  - nginx\n',
    /^line 1: the first line must be #cloud-config; .* \(found "packages:"\)$/,
  ],
  'text of no kind': ['hello there\n', /^line 1: unknown kind of user data/],
  'Ignition that is no JSON': [
    '{"ignition": {"version": "3.4.0"},\n}',
    /^it is no valid JSON for Ignition: .*line 2/,
  ],
  'Ignition without a version': ['{"ignition": {}}', /^Ignition requires a version: \{/],
  'JSON of no known kind': ['{"a": 1}', /^line 1: the first line must be #cloud-config/],
  'YAML of a later Talos': ['version: v2\nmachine:\n', /^line 1: the first line must be/],
  'a path mistaken for a text': ['/etc/user-data.yaml', /^line 1: unknown kind of user data/],
  'a header with a blank in it': ['# cloud-config\na: 1\n', /^line 1: the first line must be/],
  'bad indentation': [
    '#cloud-config\na: 1\n  b: 2\n',
    /^line 3: bad indentation of a mapping entry$/,
  ],
  'a tab as indentation': ['#cloud-config\na:\n\tb: 1\n', /^line 3: /],
  'a tab after a colon': [
    '#cloud-config\na: 1\nb:\t2\n',
    /^line 3: a tab outside of quotes; write spaces$/,
  ],
  'a tab before a comment': ['#cloud-config\na: 1\t# one\n', /^line 2: a tab outside of quotes/],
  'a line of one tab': ['#cloud-config\na: 1\n\t\nb: 2\n', /^line 3: a tab outside of quotes/],
  'a tab within an unquoted text': ['#cloud-config\nruncmd:\n- ls\t-l\n', /^line 3: a tab/],
  'a tab below a block': ['#cloud-config\na: |\n  x\ty\nb:\tz\n', /^line 4: a tab/],
  'two colons on a line': ['#cloud-config\n\nrun: echo: x\n', /^line 3: /],
  'an open quote': ['#cloud-config\na: "b\n', /^line 3: |^line 2: /],
  'an open list': ['#cloud-config\na: [1,\n', /^line [23]: /],
  'two documents': ['#cloud-config\na: 1\n---\nb: 2\n', /^line 2: expected a single document/],
  'an anchor that is not set': [
    '#cloud-config\na: *nowhere\n',
    /^line 2: unidentified alias "nowhere"$/,
  ],
  'an unknown tag': ['#cloud-config\na: !secret x\n', /^line 2: unknown tag !secret$/],
  'a list at the top': ['#cloud-config\n- a\n', /^line 2: cloud-config must be a mapping .* list$/],
  'a word at the top': ['#cloud-config\nhello\n', /^line 2: cloud-config must be a mapping/],
  'an archive that is no list': ['#cloud-config-archive\na: 1\n', /must be a list of parts/],
  'a patch that is no JSON': ['#cloud-config-jsonp\nnope', /^line 1: not a JSON patch: /],
  'a patch that is no list': ['#cloud-config-jsonp\n{}', /must be a list of operations/],
  'an include of nothing': ['#include\n# later\n', /^line 1: #include names no address$/],
  'a template of no kind': [
    '## template: jinja\na: 1\n',
    /^line 2: a header such as #cloud-config must follow "## template: jinja"$/,
  ],
  'a template below a blank line': [
    '\n## template: jinja\n#cloud-config\n',
    /^line 2: nothing may come before ## template:, not even a blank$/,
  ],
  'a template of another language': [
    '## template: jinja2\n#cloud-config\n',
    /^line 1: only jinja may follow "## template:"/,
  ],
  'a control character': [
    '#cloud-config\na: 1\rb: \x07\n',
    /^line 3: the stream contains non-printable characters$/,
  ],
  'a script below a blank line': ['\n#!/bin/sh\n', /^line 2: nothing may come before #!/],
  'a byte order mark': ['\ufeff#cloud-config\na: 1\n', /^line 1: a byte order mark/],
  'a NUL byte': ['#cloud-config\na: 1\nb: \0\n', /^line 3: a NUL byte$/],
  'half a surrogate pair': ['#cloud-config\na: "\ud800"\n', /not valid Unicode/],
  'more than 1 MiB': [
    `#cloud-config\na: ${'x'.repeat(1024 * 1024)}`,
    /^it is \d+ bytes long; the maximum is 1048576$/,
  ],
  'a MIME message without a boundary': [
    'MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nx',
    /names no boundary/,
  ],
  'a MIME message without parts': [
    'MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=b\n\nx',
    /no part begins with the boundary "b"/,
  ],
  'a MIME message of no kind': ['MIME-Version: 1.0\n\nx', /^line 3: unknown kind of user data/],
  'a MIME message without a text': [
    'MIME-Version: 1.0\n',
    /^line 1: .*\(found "MIME-Version: 1.0"\)/,
  ],
  'a MIME message with bad cloud-config': [
    'MIME-Version: 1.0\nContent-Type: text/cloud-config\n\na: [\n',
    /^line 5: unexpected end of the stream within a flow collection$/,
  ],
  'a line that is no header': [
    'MIME-Version: 1.0\nContent-Type multipart/mixed\n\nx',
    /^line 2: unknown kind of user data/,
  ],
  // What Python's email package makes of it is no UTF-8 any more (seen with cloud-init 22.4.2 and Python 3.11).
  'letters that a mail spoils': [
    '#cloud-config\na: "MIME-Version: 1.0"\nb: é\n',
    /^line 3: "é" would be lost: .*"MIME-Version:"/,
  ],
  'letters that a MIME message spoils': [
    mime.replace('#!/bin/sh', '#!/bin/sh\necho ü'),
    /"ü" would/,
  ],
};
for (const [name, [given, expected]] of Object.entries(wrong)) {
  test(`V-61: reported: ${name}`, () => {
    const problems = checkUserData(given);
    assert.match(problems.join('\n'), expected);
  });
}

test('V-61: every text is judged, none throws, and each problem is one line', () => {
  const headed = fc
    .tuple(
      fc.constantFrom(
        '',
        '#cloud-config\n',
        '#include\n',
        '#cloud-config-archive\n',
        'MIME-Version: 1\n',
      ),
      text,
    )
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(headed, (given) => {
      for (const problem of checkUserData(given)) assert.doesNotMatch(problem, /\n/);
    }),
    { numRuns: 500 },
  );
});

const packed = (content: string): Uint8Array => gzipSync(content);
const cut = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, -9);

const files: Readonly<Record<string, readonly [Uint8Array, RegExp]>> = {
  'a text': [Buffer.from('#cloud-config\na: é\n'), /^$/],
  'an empty file': [new Uint8Array(), /^$/],
  'compressed cloud-config': [packed('#cloud-config\na: é\n'), /^$/],
  'a compressed script': [packed('#!/bin/sh\n'), /^$/],
  'two compressed halves': [Buffer.concat([packed('#!/bin'), packed('/sh\n')]), /^$/],
  'a compressed mistake': [
    packed('#cloud-config\na: [\n'),
    /^line 3: unexpected end of the stream within a flow collection$/,
  ],
  'compressed twice': [gzipSync(packed('#!/bin/sh\n')), /not UTF-8 text$/],
  'compressed and cut': [
    cut(packed('#!/bin/sh\n')),
    /^it is gzip-compressed and cannot be unpacked/,
  ],
  'the mark of gzip alone': [
    Buffer.of(0x1f, 0x8b),
    /^it is gzip-compressed and cannot be unpacked/,
  ],
  'compressed and far too long': [
    gzipSync(Buffer.alloc(2 ** 22)),
    /^it is gzip-compressed and unpacks to more than 1048576 bytes$/,
  ],
  'no text': [Buffer.of(0x23, 0x21, 0xff), /^it is not UTF-8 text$/],
  'a byte order mark': [Buffer.from('\ufeff#cloud-config\n'), /^line 1: a byte order mark/],
};
for (const [name, [bytes, expected]] of Object.entries(files)) {
  test(`V-59 V-61: user data from a file: ${name}`, () => {
    assert.match(checkUserData(bytes).join('\n'), expected);
  });
}
