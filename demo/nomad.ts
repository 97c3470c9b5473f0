import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from './agent.ts';
import type { NomadParts } from './nomad-parts.ts';
import { fetchPage } from './page.ts';
import type { Stage } from './stage.ts';

const bootMs = 90_000;
const driverMs = 60_000;
const port = 18080;

/** Runs the VM as a job of a real Nomad agent, by the commands of its user. */
export async function runJob(stage: Stage, parts: NomadParts): Promise<void> {
  const { report, dir, image, signal } = stage;
  report.step('Start an agent: nomad agent -dev, with the plugin in its plugin_dir');
  const plugins = join(dir, 'plugins');
  await mkdir(plugins);
  await copyFile(parts.plugin, join(plugins, basename(parts.plugin)));
  const config = join(dir, 'agent.hcl');
  await writeFile(config, agentConfig(dir, plugins, image));
  const jobFile = join(dir, 'hello.nomad.hcl');
  await writeFile(jobFile, jobText(image));
  await using agent = await Agent.start({ program: parts.agent, config, dir, report }, { signal });
  await agent.until('a healthy driver "virt"', driverMs, async () => {
    const self = await agent.get('/v1/agent/self');
    const node = await agent.get(`/v1/node/${text(self, 'stats', 'client', 'node_id')}`);
    return text(node, 'Drivers', 'virt', 'HealthDescription') === 'Healthy' && isEligible(node);
  });
  report.line('the node is ready and the driver healthy');
  await agent.show(['node', 'status', '-self', '-verbose'], (line) =>
    /^driver\.virt\.(emulator|network)/.test(line),
  );

  report.step('Run the job');
  await agent.show(['job', 'run', '-detach', jobFile]);
  const alloc = await agent.allocation('hello', bootMs);
  const url = `http://127.0.0.1:${port}/`;
  report.step(`Fetch a page from the guest: ${url} on the host → port 80 in the guest`);
  report.line(`$ curl ${url}`);
  const page = await fetchPage(url, bootMs, { signal }).catch(async (error: unknown) => {
    signal.throwIfAborted();
    await agent.show(['alloc', 'status', alloc]);
    await agent.show(['alloc', 'logs', alloc, 'vm']);
    throw error;
  });
  report.line(page.text.trim());

  report.step("The guest's console is the task's log");
  await agent.show(['alloc', 'logs', alloc, 'vm'], undefined, report.console.bind(report));

  report.step('Statistics and events');
  // The agent collects once a second; the first sample has no CPU share yet.
  await sleep(2500, undefined, { signal });
  await agent.show(['alloc', 'status', '-stats', alloc], (line) => line.trim() !== '');

  report.step('Stop the job: the guest is asked to power off');
  await agent.show(['job', 'stop', '-detach', 'hello']);
  await agent.until('the allocation is complete', 30_000, async () => {
    return text(await agent.get(`/v1/allocation/${alloc}`), 'ClientStatus') === 'complete';
  });
  await agent.show(['alloc', 'status', alloc], recentEvents());

  report.step('Purge the job and end the agent');
  await agent.show(['job', 'stop', '-purge', '-detach', 'hello']);
  await agent.show(['system', 'gc']);
}

function isEligible(node: unknown): boolean {
  return text(node, 'Status') === 'ready' && text(node, 'SchedulingEligibility') === 'eligible';
}

/** The table of events only. */
function recentEvents(): (line: string) => boolean {
  let begun = false;
  return (line) => {
    begun ||= line.startsWith('Recent Events');
    return begun && line.trim() !== '';
  };
}

/** A text at a path in JSON; '' when there is none. */
function text(json: unknown, ...path: readonly string[]): string {
  const value = path.reduce<unknown>(
    (at, key) =>
      typeof at === 'object' && at !== null
        ? Object.entries(at).find(([name]) => name === key)?.[1]
        : undefined,
    json,
  );
  return typeof value === 'string' ? value : '';
}

function agentConfig(dir: string, plugins: string, image: string): string {
  return `bind_addr            = "127.0.0.1"
plugin_dir           = "${plugins}"
disable_update_check = true

client {
  # A guest may take longer to power off than a process; the default is 30 s.
  max_kill_timeout = "2m"
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}

plugin "nomad-driver-qmp" {
  config {
    data_dir    = "${dir}/data"
    image_paths = ["${dirname(image)}"]
    limits {
      min_memory_mb = 128
      min_disk_mb   = 64
    }
  }
}
`;
}

function jobText(image: string): string {
  return `job "hello" {
  group "vm" {
    network {
      port "http" {
        static = ${port}
        to     = 80
      }
    }

    task "vm" {
      driver       = "virt"
      kill_timeout = "20s"

      config {
        image             = "${image}"
        primary_disk_size = 256
        use_thin_copy     = true
        vcpus             = 1
        hostname          = "hello-qmp"
        user_data         = "local/user-data.sh"

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      template {
        destination = "local/user-data.sh"
        data        = <<-SCRIPT
          #!/bin/sh
          echo "Hello from $(hostname), allocation {{ env "NOMAD_SHORT_ALLOC_ID" }}." > /www/index.html
          echo "user data has run"
        SCRIPT
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
`;
}
