# A guest of another architecture: QEMU translates its instructions, so it is slow, and works on any host that has
# qemu-system-aarch64 and its UEFI firmware (Debian: qemu-system-arm, qemu-efi-aarch64).

job "arm64-tcg" {
  group "vm" {
    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      artifact {
        source      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-arm64.qcow2"
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      config {
        image             = "local/debian-12.qcow2"
        primary_disk_size = 10000
        use_thin_copy     = true
        accelerator       = "tcg"
        vcpus             = 1

        os {
          arch    = "aarch64"
          machine = "virt"
        }

        default_user_password = "change-me"
      }

      resources {
        cpu    = 2000
        memory = 1024
      }
    }
  }
}
