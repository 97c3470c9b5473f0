# A VM with most keys of a task. After `nomad job run hello.nomad.hcl` and the guest's first boot:
#
#   curl http://ADDRESS:PORT/      ADDRESS:PORT as `nomad alloc status` shows it for the port http
#   nomad alloc logs -f ALLOC      the guest's console

job "hello" {
  group "web" {
    network {
      port "http" {
        to = 8000
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
        primary_disk_size = 10000
        use_thin_copy     = true

        hostname                        = "hello"
        default_user_password           = "change-me"
        default_user_authorized_ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5vdGFyZWFsa2V5bm90YXJlYWxrZXlub3RhcmVh you@example"

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
            ports = ["http"]
          }
        }
      }

      resources {
        cores  = 1
        memory = 1024
      }
    }
  }
}
