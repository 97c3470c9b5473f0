# Two ports of one guest. The host's port for ssh is fixed: ssh -p 2222 debian@HOST
#
#   nomad job run -var ssh_key="$(cat ~/.ssh/id_ed25519.pub)" ssh-http.nomad.hcl

variable "ssh_key" {
  type        = string
  description = "The public key that may log in: the text, not the path of a file."
}

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
      driver       = "virt"
      kill_timeout = "1m"

      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      config {
        image                           = "local/debian-12.qcow2"
        primary_disk_size               = 9000
        use_thin_copy                   = true
        default_user_authorized_ssh_key = var.ssh_key
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
        cpu    = 1000
        memory = 1024
      }
    }
  }
}
