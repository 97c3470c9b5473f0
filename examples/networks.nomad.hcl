# A guest on two networks of the host, and in QEMU's user-mode network for a port that only this host reaches. docs/networking.md
# has each kind with its limits. The plugin's configuration needs a second managed network:
#
#   managed_network {
#     bridge  = "storage0"
#     address = "10.77.0.1/24"
#   }
#
# and the client's a network for ports that are this host's alone:
#
#   client {
#     host_network "loopback" {
#       cidr = "127.0.0.0/8"
#     }
#   }

job "networks" {
  group "vm" {
    network {
      port "http" {
        to = 80
      }
      port "metrics" {
        to           = 9100
        host_network = "loopback"
      }
    }

    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      config {
        image             = "local/debian-12.qcow2"
        primary_disk_size = 9000
        use_thin_copy     = true

        # eth0 in the guest, with the default route.
        network_interface {
          default_route = true

          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }

        # eth1: its own subnet only, at an address that other jobs can rely on.
        network_interface {
          ip     = "10.77.0.50"
          mac    = "52:54:00:12:34:56"
          model  = "virtio"
          mtu    = 1500
          queues = 2

          # At most 12 MB a second to the guest, and 6 MB from it.
          bandwidth_in  = "12MB"
          bandwidth_out = "6MB"

          bridge {
            name = "storage0"
          }
        }

        # eth2: nothing but its port.
        network_interface {
          user {
            ports = ["metrics"]
          }
        }
      }

      resources {
        cpu    = 1000
        memory = 1024
      }
    }
  }
}
