import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkNetworkConfig } from '../../src/cloudinit/network-text.ts';

const fine = [
  'version: 2\nethernets:\n  all:\n    match: {name: "en*"}\n    dhcp4: true\n',
  '# mine\nnetwork:\n  version: 1 # the old one\n  config: []\n',
  '{"network": {"version": 2, "ethernets": {}}}',
  '{"version":1}',
];
const wrong: Readonly<Record<string, readonly [string, RegExp]>> = {
  'no version': ['ethernets: {}\n', /^it has neither "version: 1" nor "version: 2"$/],
  'a version of no reader': ['version: 3\n', /^it has neither/],
  'a list': ['\n- version: 2\n', /^line 2: a network configuration must be a mapping .* not list$/],
  'no YAML': ['version: 2\n  a: 1\n', /^line 2: /],
  'a tab': ['version: 2\na:\n\tb: 1\n', /^line 3: /],
  nothing: ['\n', /must be a mapping/],
};

test('V-63: network configurations of a job', () => {
  for (const text of fine) assert.deepEqual(checkNetworkConfig(text), [], text);
});

for (const [name, [text, problem]] of Object.entries(wrong)) {
  test(`V-63: refused as a network configuration: ${name}`, () => {
    const [first, ...more] = checkNetworkConfig(text);
    assert.match(first ?? 'no problem', problem);
    assert.deepEqual(more, []);
  });
}
