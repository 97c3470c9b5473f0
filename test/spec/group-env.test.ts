import assert from 'node:assert/strict';
import { test } from 'node:test';
import { groupEnv } from '#spec';

test('V-125: a guest is given the addresses of the other tasks of its group and of the upstreams of a mesh', () => {
  const env = {
    NOMAD_UPSTREAM_ADDR_db: '127.0.0.1:9191',
    NOMAD_UPSTREAM_IP_db: '127.0.0.1',
    NOMAD_UPSTREAM_PORT_db: '9191',
    NOMAD_UPSTREAM_ADDR_far: '192.0.2.7:9191',
    NOMAD_IP_http: '127.0.0.1',
  };
  const given = groupEnv(env, { gateway: '192.0.0.65' });
  assert.deepEqual(given, {
    NOMAD_UPSTREAM_ADDR_db: '192.0.0.65:9191',
    NOMAD_UPSTREAM_IP_db: '192.0.0.65',
    NOMAD_UPSTREAM_ADDR_far: '192.0.2.7:9191',
    VIRT_GROUP_IP: '192.0.0.65',
  });
  const six = { gateway: 'fd00::1' };
  assert.deepEqual(groupEnv(env, { gateway: '192.0.0.65', six }), {
    ...given,
    VIRT_GROUP_IP6: 'fd00::1',
  });
});
