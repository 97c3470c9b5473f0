import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkUserData } from '#cloudinit';
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
  'a script': '#!/bin/sh\necho hi\n',
  'a script with Windows line ends, which cloud-init mends': '#!/bin/sh\r\necho hi\r\n',
  'an include': '#include\nhttps://example/one\n',
  'an include on the same line': '#include https://example/one',
  'a boothook': '#cloud-boothook\n#!/bin/sh\n',
  'a part handler': '#part-handler\ndef list_types(): pass\n',
  'an archive': '#cloud-config-archive\n- type: text/cloud-config\n  content: "a: 1"\n',
  'a patch': '#cloud-config-jsonp [{"op":"add","path":"/a","value":1}]',
  'a template': '## template: jinja\n#cloud-config\n{% if x %}a: b{% endif %}\n',
  'a MIME message': mime,
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
  'a path mistaken for a text': ['/etc/user-data.yaml', /^line 1: unknown kind of user data/],
  'a header with a blank in it': ['# cloud-config\na: 1\n', /^line 1: the first line must be/],
  'bad indentation': ['#cloud-config\na: 1\n  b: 2\n', /^line 2: /],
  'a tab as indentation': ['#cloud-config\na:\n\tb: 1\n', /^line 3: /],
  'two colons on a line': ['#cloud-config\n\nrun: echo: x\n', /^line 3: /],
  'an open quote': ['#cloud-config\na: "b\n', /^line 3: |^line 2: /],
  'an open list': ['#cloud-config\na: [1,\n', /^line [23]: /],
  'two documents': ['#cloud-config\na: 1\n---\nb: 2\n', /^line 3: /],
  'an anchor nobody set': ['#cloud-config\na: *nowhere\n', /^line 2: unknown anchor \*nowhere$/],
  'a tag nobody knows': ['#cloud-config\na: !secret x\n', /^line 2: Unresolved tag: !secret$/],
  'a list at the top': ['#cloud-config\n- a\n', /^line 2: cloud-config must be a mapping .* list$/],
  'a word at the top': ['#cloud-config\nhello\n', /^line 2: cloud-config must be a mapping/],
  'an archive that is no list': ['#cloud-config-archive\na: 1\n', /must be a list of parts/],
  'a patch that is no JSON': ['#cloud-config-jsonp\nnope', /^line 1: not a JSON patch: /],
  'a patch that is no list': ['#cloud-config-jsonp\n{}', /must be a list of operations/],
  'an include of nothing': ['#include\n# later\n', /^line 1: #include names no address$/],
  'a template of no kind': ['## template: jinja\na: 1\n', /^line 2: below "## template: jinja"/],
  'a script below a blank line': ['\n#!/bin/sh\n', /^line 2: nothing may stand before #!/],
  'a byte order mark': ['\ufeff#cloud-config\na: 1\n', /^line 1: a byte order mark/],
  'a NUL byte': ['#cloud-config\na: 1\nb: \0\n', /^line 3: a NUL byte$/],
  'half a surrogate pair': ['#cloud-config\na: "\ud800"\n', /not valid Unicode/],
  'more than 1 MiB': [
    `#cloud-config\na: ${'x'.repeat(1024 * 1024)}`,
    /^it is \d+ bytes long; at most 1048576 fit$/,
  ],
  'a MIME message without a boundary': [
    'MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nx',
    /names no boundary/,
  ],
  'a MIME message without parts': [
    'MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=b\n\nx',
    /no part begins with the boundary "b"/,
  ],
  'a MIME message without a type': ['MIME-Version: 1.0\n\nx', /no Content-Type header/],
  'text that cloud-init takes for a MIME message': [
    '#cloud-config\na: "MIME-Version: 1.0"\n',
    /^line 1: not a MIME header/,
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
