# A server and a client in one agent, to try everything on one machine: nomad agent -config one-machine.hcl
#
# Not for production: one server keeps no copy of its state. The plugin is one file, /opt/nomad/plugins/nomad-driver-qmp.

data_dir   = "/opt/nomad/data"
plugin_dir = "/opt/nomad/plugins"

# Reached from this machine only: without ACLs, each peer of an agent can run jobs on it. The ports of VMs are on the address of the
# default route all the same.
bind_addr = "127.0.0.1"

# Where Nomad finds no private address, it has to be given them.
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

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
