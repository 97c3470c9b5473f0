# A web server in a VM behind a port that Nomad chooses, registered as a service with a check.

job "python-server" {
  group "web" {
    # A guest boots, then starts its server: longer than a container.
    update {
      healthy_deadline  = "10m"
      progress_deadline = "15m"
    }

    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    service {
      provider = "nomad"
      name     = "python-server"
      port     = "http"

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "2s"
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
        vcpus             = 2
        primary_disk_size = 10000
        use_thin_copy     = true

        # As a unit of systemd it outlives the commands, which cloud-init waits for.
        cmds = [
          "echo Hello from a virtual machine. > /srv/index.html",
          "systemd-run --unit web python3 -m http.server --directory /srv 8000",
        ]

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      resources {
        cpu    = 1000
        memory = 2000
      }
    }
  }
}
