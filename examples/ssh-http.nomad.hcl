# Two ports of one guest. The host's port for ssh is fixed: ssh -p 2222 debian@HOST

job "ssh-http" {
  group "vm" {
    network {
      port "ssh" {
        static = 2222
        to     = 22
      }
      port "http" {
        to = 80
      }
    }

    task "vm" {
      driver = "virt"

      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      config {
        image                           = "local/debian-12.qcow2"
        primary_disk_size               = 9000
        use_thin_copy                   = true
        default_user_authorized_ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5vdGFyZWFsa2V5bm90YXJlYWxrZXlub3RhcmVh you@example"
        user_data                       = <<-YAML
          #cloud-config
          packages: [nginx]
        YAML

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["ssh", "http"]
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
