# Three ways to give a guest its user data: as text in the job, from a file below image_paths, from a rendered template.

job "user-data" {
  group "inline" {
    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      config {
        image             = "/var/local/images/debian-12.qcow2"
        primary_disk_size = 10000
        use_thin_copy     = true
        timezone          = "Europe/Berlin"

        # Begins with #, so it is the text itself.
        user_data = <<-SCRIPT
          #!/bin/sh
          echo "set up inline" > /etc/motd
        SCRIPT
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }

  group "file" {
    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      config {
        image             = "/var/local/images/debian-12.qcow2"
        primary_disk_size = 10000
        use_thin_copy     = true
        user_data         = "/var/local/images/user-data.yml"
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }

  group "template" {
    task "vm" {
      driver       = "virt"
      kill_timeout = "1m"

      template {
        destination = "local/user-data.yml"
        data        = <<-YAML
          #cloud-config
          hostname: vm-{{ env "NOMAD_ALLOC_INDEX" }}
          package_update: true
        YAML
      }

      config {
        image             = "/var/local/images/debian-12.qcow2"
        primary_disk_size = 10000
        use_thin_copy     = true
        user_data         = "local/user-data.yml"
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }
}
