# Jobs as people wrote them for the later releases of nomad-driver-virt, one a group.
job "later-generation" {
  # The documentation's server.
  group "documented" {
    network {
      mode = "host"
      port "http" {
        to = 80
      }
    }

    task "virt-task" {
      driver = "virt"

      artifact {
        source      = "http://images.example/focal-server-cloudimg-amd64.img"
        destination = "local/focal-server-cloudimg-amd64.img"
        mode        = "file"
      }

      config {
        default_user_password = "password"
        cmds                  = ["python3 -m http.server 80"]

        disk {
          size = "10GiB"
          source {
            image = "local/focal-server-cloudimg-amd64.img"
          }
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      resources {
        cores  = 2
        memory = 4000
      }
    }
  }

  # Disks of every format: sparse and not, larger than their image, and an empty one.
  group "formats" {
    task "vm" {
      driver = "virt"

      config {
        disk {
          primary = true
          format  = "raw"
          source {
            image = "/var/local/statics/images/disk.qcow2"
          }
        }
        disk {
          format = "raw"
          sparse = true
          size   = "40GiB"
          source {
            image  = "/var/local/statics/images/disk.qcow2"
            format = "qcow2"
          }
        }
        disk {
          size = "20GiB"
        }
        disk {
          pool     = "local"
          kind     = "cdrom"
          bus_type = "scsi"
          source {
            image = "/var/local/statics/images/disk.qcow2"
          }
        }
        disk {
          devname   = "vdx"
          driver    = "qemu"
          read_only = true
          source {
            volume = "focal.img"
          }
        }
      }

      resources {
        cpu    = 100
        memory = 512
      }
    }
  }

  # Two guests that share the parent of their disks, and one on a volume of the pool.
  group "chained" {
    network {
      port "http" {
        to = 80
      }
    }

    task "first" {
      driver = "virt"

      config {
        hostname = "same-name"
        disk {
          chained = true
          source {
            image = "/var/local/statics/images/disk.qcow2"
          }
        }
        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      resources {
        cpu    = 100
        memory = 512
      }
    }

    task "second" {
      driver = "virt"

      config {
        hostname = "same-name"
        disk {
          pool    = "local"
          chained = true
          source {
            volume = "focal.img"
          }
        }
        network_interface {
          bridge {
            name = "virbr0"
          }
        }
      }

      resources {
        cpu    = 100
        memory = 512
      }
    }
  }

  # A directory and a block device of the client; user data in the job; a place by the driver's attributes.
  group "volumes" {
    constraint {
      attribute = "${attr.driver.virt.storage_pool.local}"
      value     = "directory"
    }

    volume "virt-data" {
      type   = "host"
      source = "virt-data-dir"
    }

    volume "virt-disk" {
      type            = "host"
      source          = "virt-data-disk"
      access_mode     = "single-node-writer"
      attachment_mode = "block-device"
    }

    task "vm" {
      driver = "virt"

      volume_mount {
        volume      = "virt-data"
        destination = "/mnt/data"
      }

      volume_mount {
        volume      = "virt-disk"
        destination = "/dev/vdb"
      }

      config {
        timezone  = "Europe/Berlin"
        user_data = <<EOH
#!/bin/sh
echo "CORPUS-DISK $(cat /sys/block/vd?/size | grep -c 16384)"
EOH

        disk {
          primary = true
          source {
            image = "/var/local/statics/images/disk.qcow2"
          }
        }
        disk {
          volume = "/dev/vdb"
        }
      }

      resources {
        cpu    = 100
        memory = 512
      }
    }
  }

  # A disk that is the volume's, written from an image at its first start.
  group "primary-volume" {
    volume "virt-primary" {
      type            = "host"
      source          = "virt-primary-disk"
      access_mode     = "single-node-writer"
      attachment_mode = "block-device"
    }

    task "vm" {
      driver = "virt"

      volume_mount {
        volume      = "virt-primary"
        destination = "/dev/vda"
      }

      config {
        disk {
          volume = "/dev/vda"
          source {
            image = "/var/local/statics/images/disk.qcow2"
          }
        }
      }

      resources {
        cpu    = 100
        memory = 512
      }
    }
  }
}
