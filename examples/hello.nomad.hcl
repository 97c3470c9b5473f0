# A VM with most keys of a task:
#
#   nomad job run -var ssh_key="$(cat ~/.ssh/id_ed25519.pub)" hello.nomad.hcl
#
# The command returns when the guest's web server answers. `nomad alloc status ALLOC` shows the ports:
#
#   curl http://ADDRESS:PORT/      of the port http
#   ssh -p PORT debian@ADDRESS     of the port ssh
#   nomad alloc logs -f ALLOC      the guest's console

variable "ssh_key" {
  type        = string
  description = "The public key that may log in: the text, not the path of a file."
}

job "hello" {
  group "web" {
    # A guest boots, then installs and starts what it needs: longer than a container.
    update {
      healthy_deadline  = "10m"
      progress_deadline = "15m"
    }

    network {
      port "http" {
        to = 8000
      }
      port "ssh" {
        to = 22
      }
    }

    # The task runs as soon as its guest does. Healthy is the allocation once this check passes.
    service {
      name     = "hello"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "5s"
      }
    }

    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      # Fetched anew for each allocation. Of an image that many jobs use, one copy in image_paths starts faster:
      # image = "/var/local/images/debian-12.qcow2", and no artifact.
      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      config {
        image             = "local/debian-12.qcow2"
        primary_disk_size = 10000
        use_thin_copy     = true

        hostname                        = "hello"
        default_user_authorized_ssh_key = var.ssh_key

        user_data = <<-YAML
          #cloud-config
          write_files:
            - path: /srv/index.html
              content: |
                Hello from a virtual machine.
        YAML

        cmds = ["systemd-run --unit web --working-directory /srv python3 -m http.server 8000"]

        os {
          arch    = "x86_64"
          machine = "q35"
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http", "ssh"]
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
