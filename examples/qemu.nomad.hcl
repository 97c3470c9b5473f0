# A job of Nomad's builtin qemu driver, unchanged: link the plugin's file as "qemu" into plugin_dir, with a block
# plugin "qemu" { }, and it runs through this driver. docs/migrating.md has what becomes of each option in args.

job "qemu" {
  group "vm" {
    network {
      port "http" {}
      port "ssh" {}
    }

    task "vm" {
      driver = "qemu"

      # The image in the task's own directory is the disk: what the guest writes is there after a restart of the task.
      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-nocloud-amd64.qcow2"
        destination = "local/debian.qcow2"
        mode        = "file"
      }

      config {
        image_path        = "local/debian.qcow2"
        accelerator       = "kvm:tcg"
        drive_interface   = "virtio"
        graceful_shutdown = true

        args = [
          "-smp", "2",
          "-netdev", "user,id=net0,hostfwd=tcp::${NOMAD_PORT_http}-:80,hostfwd=tcp::${NOMAD_PORT_ssh}-:22",
          "-device", "virtio-net-pci,netdev=net0",
          "-device", "virtio-rng-pci",
          "-nographic",
        ]
      }

      kill_timeout = "30s"

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
