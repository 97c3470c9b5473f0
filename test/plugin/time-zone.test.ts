import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { isTimeZone } from '../../src/plugin/job/time-zone.ts';
import { requireOrSkip } from '../support/require.ts';

const names: Readonly<Record<string, readonly string[]>> = {
  'a city': ['Europe/Berlin', 'America/Argentina/Buenos_Aires', 'America/Port-au-Prince'],
  'the old name of a city': ['Europe/Kiev', 'Asia/Calcutta', 'America/Buenos_Aires'],
  'the old name of a region': ['US/Pacific', 'GB-Eire', 'W-SU', 'Cuba'],
  'universal time': ['UTC', 'Etc/UTC', 'GMT', 'GMT+0', 'Zulu'],
  'an offset that has a file': ['Etc/GMT+1', 'Etc/GMT-14'],
  'an abbreviation that has a file': ['EST', 'CET', 'PRC', 'EST5EDT'],
};
for (const [name, zones] of Object.entries(names)) {
  test(`V-25: ${name} is a time zone`, () => {
    for (const zone of zones) assert.ok(isTimeZone(zone), zone);
  });
}

// The guest looks for a file of that name, and its file system tells large letters from small ones.
const others: Readonly<Record<string, readonly string[]>> = {
  'a place that is not there': ['Mars/Olympus', 'Europe/Bonn', 'Europe'],
  'a name in other letters': ['europe/berlin', 'EUROPE/KIEV', 'us/pacific', 'utc', 'Etc/utc'],
  'an offset without a file': ['GMT+1', 'UTC+1', '+01:00', '-5', 'Etc/GMT+99'],
  'an abbreviation without a file': ['PST', 'IST', 'CEST'],
  'a name of ICU alone': ['SystemV/PST8', 'US/Pacific-New', 'Etc/Unknown'],
  'a path': ['/etc/localtime', '../etc/passwd', 'Europe/../UTC', 'Europe/Berlin/', ''],
  'a name with something behind it': ['UTC\n', 'UTC ', 'Europe/Berlin\0'],
};
for (const [name, zones] of Object.entries(others)) {
  test(`V-25: ${name} is no time zone`, () => {
    for (const zone of zones) assert.equal(isTimeZone(zone), false, JSON.stringify(zone));
  });
}

test('V-25: every time zone that this host has a file for', (t) => {
  const dir = '/usr/share/zoneinfo';
  if (!requireOrSkip(t, existsSync(dir), `needs ${dir}`)) return;
  const zones = readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && /^[A-Z]/.test(entry.name))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(dir.length + 1))
    .filter((name) => !/^(posix|right)\//.test(name) && name !== 'Factory');
  assert.deepEqual(
    zones.filter((zone) => !isTimeZone(zone)),
    [],
  );
});
