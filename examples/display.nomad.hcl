# A VM with a screen. Viewers connect to the port of the host and give the password, which is a variable of Nomad:
#
#   nomad var put nomad/jobs/desktop vnc_password=8-letter
#   vncviewer HOST::PORT
#
# Without the port and the password only root of the host reaches the screen, at the socket vnc.sock of the VM.
job "desktop" {
  group "desktop" {
    network {
      port "vnc" {}
    }

    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      template {
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs/desktop" }}VNC_PASSWORD={{ .vnc_password }}{{ end }}
        EOT
        destination = "secrets/vnc.env"
        env         = true
      }

      config {
        image             = "/var/local/images/desktop.qcow2"
        primary_disk_size = 20480
        use_thin_copy     = true

        display {
          video = "virtio"

          vnc {
            port     = "vnc"
            password = "${VNC_PASSWORD}"
          }
        }
      }

      resources {
        cpu    = 2000
        memory = 2048
      }
    }
  }
}
