# A server and a client in one agent, to try everything on one machine: nomad agent -config one-machine.hcl
#
# Not for production: one server keeps no copy of its state. The plugin is one file, /opt/nomad/plugins/nomad-driver-qmp.

data_dir   = "/opt/nomad/data"
plugin_dir = "/opt/nomad/plugins"

server {
  enabled          = true
  bootstrap_expect = 1
}

client {
  enabled = true
  servers = ["127.0.0.1:4647"]

  # Without it no task gets more than 30 s to end, whatever its kill_timeout is; a guest may need longer to power off.
  max_kill_timeout = "5m"
}

telemetry {
  # Without it the agent never asks drivers for statistics.
  publish_allocation_metrics = true
}

plugin "nomad-driver-qmp" {
  config {
    image_paths = ["/var/local/images"]
  }
}
