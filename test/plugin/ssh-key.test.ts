import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { patient } from '../support/patience.ts';
import { smallest, task } from './requests.ts';

const context = {
  driverName: 'virt',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 500, minDiskMiB: 2000, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools: { pools: [], default: undefined },
} as const;

function problemsOf(key: string): readonly string[] {
  const config = { ...smallest, default_user_authorized_ssh_key: key };
  const { problems } = planTask(create(TaskConfigSchema, task({ config })), context);
  return problems.map(({ path, text }) => `${path}: ${text}`);
}

const ed25519 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5vdGFyZWFsa2V5bm90YXJl me@example';

test('V-18: SSH public keys of every kind, with options and comments', () => {
  const keys = [
    ed25519,
    `${ed25519}\n`,
    `# ours\r\n\r\n${ed25519}\r\necdsa-sha2-nistp256 AAAAE2VjZHNh`,
    `no-pty,command="/bin/date \\"+%s\\"" ${ed25519}`,
    'sk-ssh-ed25519@openssh.com AAAAGnNr',
    'ssh-rsa-cert-v01@openssh.com AAAAHHNz',
    'ssh-rsa AAAAB3NzaC1yc2E…',
    '',
  ];
  for (const key of keys) assert.deepEqual(problemsOf(key), [], key);
});

test('a text that is no SSH public key is an error, which names a path and does not repeat a private key', () => {
  const key = 'default_user_authorized_ssh_key';
  const cases = [
    ['~/.ssh/id_ed25519.pub', /is the path of a file: write the key itself.*or file\("…"\)/],
    ['/root/.ssh/id_rsa', /is the path of a file/],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as in a job
    ['${NOMAD_SECRETS_DIR}/key', /is the path of a file/],
    ['keys/me.pub', /is the path of a file/],
    ['hello', /is not an SSH public key: write the key itself, such as "ssh-ed25519 AAAA… me/],
    ['AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5v', /is not an SSH public key/],
    ['ssh-ed25519 secret', /is not an SSH public key/],
    [`${ed25519}\nhello`, /line 2 is not an SSH public key/],
    ['-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n', /is a private key/],
  ] as const;
  for (const [text, expected] of cases) {
    const [problem = '', ...more] = problemsOf(text);
    assert.deepEqual(more, []);
    assert.ok(problem.startsWith(`${key}: `), problem);
    assert.match(problem, expected);
    assert.doesNotMatch(problem, /secret/);
  }
});

test('a long text that is almost a key is refused in no time', () => {
  for (const text of ['ssh-rsa ', ' ', 'ecdsa-', 'ssh-rsa\t\t']) {
    const start = performance.now();
    assert.equal(problemsOf(text.repeat(100_000).concat('x')).length, 1);
    assert.ok(performance.now() - start < patient(5_000));
  }
});

test('V-18: several keys in a list, beside the one', () => {
  const keys = 'default_user_authorized_ssh_keys';
  const plan = (config: Readonly<Record<string, unknown>>) =>
    planTask(create(TaskConfigSchema, task({ config: { ...smallest, ...config } })), context);
  const both = plan({
    default_user_authorized_ssh_key: ed25519,
    [keys]: ['ssh-rsa AAAAB3', ed25519],
  });
  assert.deepEqual(both.problems, []);
  assert.equal(both.spec.guest.authorizedKey, `${ed25519}\nssh-rsa AAAAB3\n${ed25519}`);
  assert.equal(plan({ [keys]: ['ssh-rsa AAAAB3'] }).spec.guest.authorizedKey, 'ssh-rsa AAAAB3');
  const wrong = plan({ [keys]: [ed25519, '~/.ssh/id.pub', ''] }).problems;
  assert.deepEqual(
    wrong.map(({ path }) => path),
    [`${keys}[1]`, `${keys}[2]`],
  );
});
