# Commands in the guest: a script check, an action, and a template whose change runs a script. They run by qemu-guest-agent
# where the guest has it, else by ssh (docs/guests.md). Nomad reports the results of script checks to Consul only, so the job is
# placed on clients that have Consul; without the service it runs on any.
#
#   nomad var put nomad/jobs/commands greeting=hello
#   nomad job run exec.nomad.hcl
#   nomad action -job=commands -group=web -task=vm greeting
#   nomad alloc exec -t ALLOC bash
job "commands" {
  group "web" {
    network {
      port "http" {
        to = 80
      }
    }

    service {
      provider = "consul"
      name     = "web"
      port     = "http"
      task     = "vm"

      check {
        type     = "script"
        name     = "greeting"
        command  = "cat"
        args     = ["/etc/greeting"]
        interval = "10s"
        timeout  = "5s"
      }
    }

    task "vm" {
      driver       = "virt"
      kill_timeout = "30s"

      action "greeting" {
        command = "cat"
        args    = ["/etc/greeting"]
      }

      template {
        data        = "{{ with nomadVar \"nomad/jobs/commands\" }}{{ .greeting }}{{ end }}\n"
        destination = "local/greeting"
        change_mode = "script"
        change_script {
          command = "cp"
          args    = ["/local/greeting", "/etc/greeting"]
          timeout = "30s"
        }
      }

      config {
        image             = "/var/local/images/debian-12-genericcloud-amd64.qcow2"
        primary_disk_size = 4096
        use_thin_copy     = true

        # At the first boot.
        cmds = ["cp /local/greeting /etc/greeting"]

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
