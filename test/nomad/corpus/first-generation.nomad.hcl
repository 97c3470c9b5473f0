# Jobs as people wrote them for the first releases of nomad-driver-virt, one a group.
job "first-generation" {
  datacenters = ["dc1"]

  # The documentation's server, with only a CPU share.
  group "documented" {
    network {
      mode = "host"
      port "http" {
        to = 80
      }
    }

    task "virt-task" {
      driver = "nomad-driver-virt"

      artifact {
        source      = "http://images.example/focal-server-cloudimg-amd64.img"
        destination = "local/focal-server-cloudimg-amd64.img"
        mode        = "file"
      }

      config {
        image                 = "local/focal-server-cloudimg-amd64.img"
        primary_disk_size     = 10000
        use_thin_copy         = true
        default_user_password = "password"
        cmds                  = ["python3 -m http.server 80"]

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      resources {
        cpu    = 40
        memory = 4000
      }
    }
  }

  # No network, no size, a key that is shortened, reserved cores.
  group "identity" {
    task "virt-task" {
      identity {
        env  = true
        file = true
      }

      template {
        data        = <<EOH
        Guest System
        EOH
        destination = "local/index.html"
      }

      driver = "nomad-driver-virt"

      artifact {
        source      = "http://images.example/focal-server-cloudimg-amd64.img"
        destination = "local/focal-server-cloudimg-amd64.img"
        mode        = "file"
      }

      config {
        image                           = "local/focal-server-cloudimg-amd64.img"
        use_thin_copy                   = true
        default_user_password           = "password"
        cmds                            = ["touch /home/ubuntu/file.txt"]
        default_user_authorized_ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1..."
      }

      resources {
        cores  = 4
        memory = 4000
      }
    }
  }

  # Two ports, an image of the host that is copied, a name of the guest's own.
  group "two-ports" {
    network {
      port "ssh" {
        to = 22
      }
      port "http" {
        to = 80
      }
    }

    service {
      name     = "ssh"
      port     = "ssh"
      provider = "nomad"
    }

    task "vm" {
      driver = "nomad-driver-virt"

      config {
        image             = "/var/local/statics/images/disk.qcow2"
        primary_disk_size = 9000
        use_thin_copy     = false
        hostname          = "Two-Ports"
        cmds              = ["systemctl enable --now ssh", "echo 'a: b' # c"]

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["ssh", "http"]
          }
        }
      }

      resources {
        cpu    = 500
        memory = 2048
      }
    }
  }

  # An archive that is unpacked, a task whose name is no host's.
  group "windows" {
    network {
      mode = "host"
      port "ssh" {
        to = 22
      }
    }

    task "Windows_Print.Server" {
      driver = "nomad-driver-virt"

      artifact {
        source = "http://images.example/Win2022_20324.qcow2.tgz"
      }

      config {
        image                 = "local/Win2022_20324.qcow2"
        primary_disk_size     = 10000
        use_thin_copy         = true
        default_user_password = "pass: \"word\" #1"

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["ssh"]
          }
        }
      }

      resources {
        cpu    = 2000
        memory = 4000
      }
    }
  }

  # The image in the task's own directory; cloud-init's file from a template; a place by the driver's attributes.
  group "placed" {
    constraint {
      attribute = "${attr.driver.virt.network.default.bridge_name}"
      value     = "virbr0"
    }
    constraint {
      attribute = "${attr.driver.virt.network.default.state}"
      value     = "active"
    }
    constraint {
      attribute = "${attr.driver.virt.emulator.version}"
      operator  = ">="
      value     = "5000000"
    }
    constraint {
      attribute = "${attr.driver.virt}"
      operator  = "is_set"
    }

    network {
      port "http" {
        static = 18080
        to     = 80
      }
    }

    task "vm" {
      driver = "nomad-driver-virt"

      artifact {
        source      = "http://images.example/focal-server-cloudimg-amd64.img"
        destination = "tinycore.qcow2"
        mode        = "file"
      }

      template {
        data        = "#cloud-config\npackages:\n  - nginx\nhostname: {{ env \"NOMAD_TASK_NAME\" }}\n"
        destination = "local/user-data.yml"
      }

      config {
        image     = "tinycore.qcow2"
        user_data = "local/user-data.yml"

        os {
          arch    = "x86_64"
          machine = "pc"
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      env {
        GREETING = "it's \"here\""
      }

      kill_timeout = "20s"

      resources {
        cpu    = 128
        memory = 512
      }
    }
  }
}
