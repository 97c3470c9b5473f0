# Commands in the guest: a check and an action, and a template whose change runs a script. The image has qemu-guest-agent.
#
#   nomad alloc exec -t ALLOC sh
#   nomad action -job=commands -group=web -task=vm status
job "commands" {
  group "web" {
    network {
      port "http" {
        to = 80
      }
    }

    service {
      provider = "nomad"
      name     = "web"
      port     = "http"
    }

    task "vm" {
      driver = "virt"

      action "status" {
        command = "uptime"
      }

      template {
        data        = "greeting = hello\n"
        destination = "local/app.conf"
        change_mode = "script"
        change_script {
          command = "/bin/sh"
          args    = ["-c", "kill -HUP $(cat /run/app.pid)"]
          timeout = "10s"
        }
      }

      config {
        image             = "/var/lib/images/debian-with-agent.qcow2"
        primary_disk_size = 4096
        use_thin_copy     = true

        exec {
          via = "agent"
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
