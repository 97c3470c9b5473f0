# A VM that does its work and powers itself off: the allocation is complete. A guest that panics makes it failed. What the
# commands print is on the console: nomad alloc logs ALLOC

job "batch" {
  type = "batch"

  group "work" {
    restart {
      attempts = 1
      mode     = "fail"
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
        cmds              = ["sha256sum /local/debian-12.qcow2"]

        # Once all of cloud-init is done: a poweroff in cmds would end it in the middle, with a traceback on the console.
        user_data = <<-YAML
          #cloud-config
          power_state:
            mode: poweroff
        YAML
      }

      resources {
        cpu    = 1000
        memory = 1024
      }
    }
  }
}
