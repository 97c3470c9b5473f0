# The minimum that a Nomad client needs: nomad agent -config agent.hcl
#
# The plugin is one file, /opt/nomad/plugins/nomad-driver-qmp. The label of the plugin block is that file's name.
# For jobs with driver = "nomad-driver-virt": ln -s nomad-driver-qmp /opt/nomad/plugins/nomad-driver-virt, and a second
# block with that label and the same configuration.

data_dir   = "/opt/nomad/data"
plugin_dir = "/opt/nomad/plugins"

client {
  enabled = true
  servers = ["nomad-server.example:4647"]

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
