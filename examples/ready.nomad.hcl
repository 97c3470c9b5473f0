# A web server in a guest whose events show how far it has come, and which a signal reloads:
#
#   nomad job run -var ssh_key="$(cat ~/.ssh/id_ed25519.pub)" ready.nomad.hcl
#   nomad alloc status ALLOC              "Guest's kernel has started", …, "Guest is ready after 31 s"
#   nomad alloc signal -s SIGHUP ALLOC    runs the command of on_sighup in the guest
#
# When the page changes, Nomad sends that signal itself.

variable "ssh_key" {
  type        = string
  description = "The public key that may log in: the text, not the path of a file."
}

variable "greeting" {
  type    = string
  default = "Hello"
}

job "ready" {
  group "web" {
    network {
      port "http" {
        to = 80
      }
    }

    # The ready block is for people who read events; whether the service gets requests is up to its check.
    service {
      name     = "ready"
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

      template {
        data          = "${var.greeting} from a virtual machine.\n"
        destination   = "local/index.html"
        change_mode   = "signal"
        change_signal = "SIGHUP"
      }

      config {
        image             = "/var/local/images/debian-12.qcow2"
        primary_disk_size = 10000
        use_thin_copy     = true

        default_user_authorized_ssh_keys = [var.ssh_key]

        user_data = <<-YAML
          #cloud-config
          packages: [nginx-light, qemu-guest-agent]
        YAML

        # At each boot of the guest, not only at the first one.
        cmds    = ["cp /local/index.html /var/www/html/index.html"]
        cmds_on = "boot"

        ready {
          agent   = true
          port    = "http"
          timeout = "5m"
        }

        exec {
          on_sighup = ["cp", "/local/index.html", "/var/www/html/index.html"]
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
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
