# A VM without a network interface. What Nomad puts into the task's directories is in the guest at /alloc, /local and
# /secrets: the rendered template as /local/index.html, the workload identity's token as /secrets/nomad_token. What the
# commands print is on the console: nomad alloc logs ALLOC

job "template-identity" {
  group "vm" {
    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      identity {
        env  = true
        file = true
      }

      template {
        destination = "local/index.html"
        data        = <<-HTML
          <h1>Task {{ env "NOMAD_TASK_NAME" }} of allocation {{ env "NOMAD_ALLOC_ID" }}</h1>
        HTML
      }

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

        cmds = [
          "cat /local/index.html",
          "test -s /secrets/nomad_token && echo The token is there.",
        ]
      }

      resources {
        cpu    = 1000
        memory = 2000
      }
    }
  }
}
