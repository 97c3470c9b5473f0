# A VM in the network of its group, beside a task of another driver: bridge mode needs the CNI plugins on the client, and the
# other driver, which Nomad has switched off,
#
#   plugin "raw_exec" {
#     config {
#       enabled = true
#     }
#   }

job "group" {
  group "web" {
    network {
      mode = "bridge"
      port "http" {
        to = 80
      }
    }

    service {
      provider     = "nomad"
      name         = "web"
      port         = "http"
      address_mode = "alloc"
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
        cmds = [
          ". /etc/nomad/env; echo \"cache at $VIRT_GROUP_IP:6379\" > /run/cache",
          "systemd-run --unit web python3 -m http.server --directory /srv 80",
        ]

        network_interface {
          group {
            ports = ["http"]
          }
        }
      }

      resources {
        cpu    = 1000
        memory = 1024
      }
    }

    # Listens at 127.0.0.1 of the group's network; the guest reaches it at $VIRT_GROUP_IP:6379.
    task "cache" {
      driver = "raw_exec"

      config {
        command = "/usr/bin/redis-server"
        args    = ["--bind", "127.0.0.1", "--protected-mode", "no"]
      }
    }
  }
}
