# Three disks: an overlay of an image to boot from, an empty one, and one that stays in a host volume, which the client has as
#
#   client {
#     host_volume "data" {
#       path = "/srv/data"
#     }
#   }

job "disks" {
  group "vm" {
    volume "data" {
      type   = "host"
      source = "data"
    }

    task "database" {
      driver       = "virt"
      kill_timeout = "1m"

      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-amd64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      volume_mount {
        volume      = "data"
        destination = "/volumes/data"
      }

      config {
        vcpus = 2

        disk {
          primary = true
          chained = true
          size    = "20GiB"

          source {
            image = "local/debian-12.qcow2"
          }
        }

        # Scratch space: gone with the VM.
        disk {
          size   = "50GiB"
          format = "raw"
          sparse = true

          throttle {
            iops = 2000
            bps  = "200MB"
          }
        }

        # Created at the first start, kept for the next ones: /dev/disk/by-id/virtio-data in the guest.
        disk {
          volume = "/volumes/data"
          size   = "100GiB"
          serial = "data"
        }
      }

      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
