# A database whose data outlives its VM: the second disk is a file in a host volume, which the client has as
#
#   client {
#     host_volume "databases" {
#       path = "/srv/databases"
#     }
#   }
#
# A restart, an update of the job or a crash of the agent starts the VM with the same data.

job "database" {
  group "db" {
    volume "data" {
      type   = "host"
      source = "databases"
    }

    network {
      port "postgres" {
        to = 5432
      }
    }

    task "vm" {
      driver       = "virt"
      kill_timeout = "2m"

      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      config {
        disk {
          primary = true
          chained = true
          size    = "10GiB"

          source {
            image = "local/debian-12.qcow2"
          }
        }

        # /srv/databases/vdb.qcow2, made at the first start. In the guest: /dev/disk/by-id/virtio-postgres.
        disk {
          volume = "/data"
          size   = "100GiB"
          serial = "postgres"

          throttle {
            iops  = 2000
            burst = 10
          }
        }

        user_data = <<-YAML
          #cloud-config
          fs_setup:
            - device: /dev/disk/by-id/virtio-postgres
              filesystem: ext4
              overwrite: false
          mounts:
            - [/dev/disk/by-id/virtio-postgres, /var/lib/postgresql, ext4, "defaults,nofail"]
          packages: [postgresql]
        YAML

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["postgres"]
          }
        }
      }

      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
