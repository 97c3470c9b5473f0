# Every key of the driver that has an effect, with its default unless a comment gives another. docs/configuration.md
# describes them.

data_dir   = "/opt/nomad/data"
plugin_dir = "/opt/nomad/plugins"

client {
  enabled          = true
  servers          = ["nomad-server.example:4647"]
  max_kill_timeout = "5m"
}

telemetry {
  # Without it the agent never asks drivers for statistics.
  publish_allocation_metrics = true
}

plugin "nomad-driver-qmp" {
  # A file (or link) called nomad-driver-virt answers to that name by itself; any other name is set here.
  # args = ["--driver-name", "nomad-driver-virt"]

  config {
    data_dir = "/var/lib/virt"
    run_dir  = "/run/nomad-driver-qmp"

    # Default: none.
    image_paths = ["/var/local/images", "/srv/images"]

    log_level = "info"

    # What a job may ask for.
    limits {
      min_memory_mb = 64
      min_disk_mb   = 1
      max_disk_mb   = 2097152

      # What one VM may use: open connections through the host, in each direction.
      max_connections = 8192
    }

    # One user id for each VM; no account may be among them.
    uid_range {
      min = 1900000000
      max = 1900065535
    }

    # Networks that the driver makes when a VM asks for their bridge. Without any of these blocks there is the first one.
    managed_network {
      bridge  = "virbr0"
      address = "192.168.122.1/24"
    }

    managed_network {
      bridge      = "virbr1"
      address     = "10.20.0.1/22"
      address6    = "fd12:3456:789a::1/64"
      nameservers = ["9.9.9.9", "149.112.112.112"]

      # VMs reach each other at published ports only, and of the host DHCP, DNS and these ports.
      isolate          = true
      allow_host_ports = ["tcp/8500", 123]

      # The defaults of nat and dhcp. Without mtu it is that of the way out of the host.
      nat  = true
      dhcp = true
      mtu  = 1450

      # VMs find each other as web-1.lan.internal. Default: virbr1.internal.
      dns    = true
      domain = "lan.internal"
    }

    # Bridges that the driver does not manage and that jobs may name as well. Default: none.
    bridges = ["br0"]

    # Devices that jobs may put VMs on directly; they are not filtered there either.
    macvtap_devices = ["eno1"]

    # Where the disks of VMs are created. Without this block: in data_dir.
    storage_pools {
      # Required, because there are two.
      default = "local"

      directory "local" {
        path = "/srv/vm-disks"
      }

      ceph "remote" {
        pool  = "vms"
        hosts = ["192.0.2.1:6789", "[2001:db8::1]:6789"]

        authentication {
          username = "nomad"
          secret   = "AQBSdFhcGxRHEBAAkMJzKQ5Qw4mH2DdPqVUBDw=="
        }
      }
    }

    # Unpacked and converted images: those not used for longest are removed above this size.
    image_store {
      max_size = "50GiB"
    }

    # Figures for Prometheus, for every user of this host; "unix:/path" is for root alone.
    metrics {
      listen = "127.0.0.1:9177"
    }

    # Accepted from configurations for libvirt drivers; they change nothing.
    emulator {
      uri = "qemu:///system"
    }

    provider "libvirt" {
      uri = "qemu:///system"
    }
  }
}
