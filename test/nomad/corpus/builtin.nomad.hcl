# Jobs as people wrote them for Nomad's builtin qemu driver, one a group.
job "builtin" {
  datacenters = ["dc1"]

  # The documentation's task, at the version that it asks for.
  group "documented" {
    constraint {
      attribute = "${attr.driver.qemu.version}"
      operator  = ">"
      value     = "1.2.3"
    }

    task "webservice" {
      driver = "qemu"

      config {
        image_path        = "local/linux.img"
        accelerator       = "kvm"
        graceful_shutdown = true
        args              = ["-nodefaults", "-nodefconfig"]
      }

      artifact {
        source = "http://images.example/linux.img"
      }
    }
  }

  # Ports by hostfwd on a network of the older form, a service with a check, little memory.
  group "tinycore" {
    network {
      port "http" {}
      port "ssh" {}
    }

    task "tinycore" {
      driver = "qemu"

      artifact {
        source      = "http://images.example/tinycore.qcow2"
        destination = "local/"
      }

      config {
        image_path  = "local/tinycore.qcow2"
        accelerator = "kvm"
        args = [
          "-device", "virtio-net-pci,netdev=user.0",
          "-netdev", "user,id=user.0,hostfwd=tcp::${NOMAD_PORT_http}-:80,hostfwd=tcp::${NOMAD_PORT_ssh}-:22",
        ]
      }

      service {
        name     = "tinycore-http"
        port     = "http"
        provider = "nomad"

        check {
          type     = "tcp"
          interval = "10s"
          timeout  = "2s"
        }
      }

      resources {
        cpu    = 100
        memory = 192
      }
    }
  }

  # Ports by port_map, a seed that a server has, named in SMBIOS.
  group "cloud-image" {
    network {
      mode = "host"
      port "http" {
        to = -1
      }
    }

    task "distro-vm" {
      driver = "qemu"

      artifact {
        source      = "http://images.example/debian-12-genericcloud-amd64.qcow2"
        destination = "local/debian.qcow2"
        mode        = "file"
      }

      config {
        image_path      = "local/debian.qcow2"
        accelerator     = "kvm"
        drive_interface = "virtio"

        port_map {
          http = 80
        }

        args = [
          "-net", "nic,model=virtio",
          "-net", "user",
          "-smbios", "type=1,serial=ds=nocloud-net;s=http://192.0.2.1:8000/",
        ]
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }

  # On a bridge of the host, with an address that its DHCP server knows, UEFI's files aside.
  group "bridged" {
    task "vm" {
      driver = "qemu"

      config {
        image_path        = "/var/local/statics/images/disk.qcow2"
        drive_interface   = "ide"
        graceful_shutdown = true
        guest_agent       = false
        args = [
          "-netdev", "bridge,id=net0,br=virbr0",
          "-device", "virtio-net,netdev=net0,id=nic1,mac=52:54:84:ba:49:20",
          "-device", "virtio-serial",
          "-chardev", "socket,path=/var/lib/nomad/alloc/${NOMAD_ALLOC_ID}/${NOMAD_TASK_NAME}/qa.sock,server=on,wait=off,id=qga0",
          "-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0",
        ]
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }

  # Memory, processors and identity from the task's environment and a template's, on a disk of another hypervisor.
  group "from-environment" {
    task "jenkins-slave" {
      driver = "qemu"

      template {
        data        = "VMNAME={{ env \"NOMAD_JOB_NAME\" }}-{{ env \"NOMAD_ALLOC_INDEX\" }}\n"
        change_mode = "noop"
        destination = "local/host.env"
        env         = true
      }

      config {
        image_path        = "local/el7.vmdk"
        accelerator       = "kvm"
        graceful_shutdown = true
        args = [
          "-m", "${NOMAD_MEMORY_LIMIT}M",
          "-smp", "2",
          "-smbios", "type=1,serial=ds=nocloud;h=${VMNAME}.example.com;i=i-${NOMAD_ALLOC_INDEX}",
        ]
      }

      artifact {
        source      = "http://images.example/el7.vmdk"
        destination = "local/el7.vmdk"
        mode        = "file"
      }

      resources {
        cpu    = 1000
        memory = 256
      }
    }
  }

  # More memory than the task has, ports that port_map and an option have, an old card, a network of its own numbers, a compressed image.
  group "appliance" {
    network {
      port "webui" {
        static = 18123
      }
      port "vnc" {
        static = 5904
      }
    }

    task "home-assistant" {
      driver = "qemu"

      artifact {
        source      = "http://images.example/hassos_ova.qcow2.gz"
        destination = "hassos_ova.qcow2"
        mode        = "file"
      }

      config {
        image_path        = "hassos_ova.qcow2"
        accelerator       = "kvm"
        graceful_shutdown = true

        port_map = {
          webui = 8123
          vnc   = 5904
        }

        args = [
          "-m", "4096", "-cpu", "kvm64", "-smp", "2",
          "-vnc", "0.0.0.0:4",
          "-net", "nic,model=e1000",
          "-net", "user,net=192.168.76.0/24,dhcpstart=192.168.76.9,dns=8.8.8.8,hostname=ha,hostfwd=tcp::${NOMAD_PORT_webui}-192.168.76.9:8123",
        ]
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }

  # UEFI with its variables in a file of the task, as every guide has it.
  group "uefi" {
    task "vm" {
      driver = "qemu"

      artifact {
        source      = "http://images.example/OVMF_VARS_4M.fd"
        destination = "local/OVMF_VARS_4M.fd"
        mode        = "file"
      }

      config {
        image_path      = "/var/local/statics/uefi/disk.qcow2"
        machine_type    = "q35"
        drive_interface = "virtio"
        args = [
          "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
          "-drive", "if=pflash,format=raw,unit=1,file=${NOMAD_TASK_DIR}/OVMF_VARS_4M.fd",
          "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
          "-nographic",
        ]
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }

  # Disks on every bus, a second card, a directory by 9p, and what has no effect.
  group "everything" {
    task "vm" {
      driver = "qemu"

      artifact {
        source      = "http://images.example/boot.qcow2"
        destination = "local/boot.qcow2"
        mode        = "file"
      }
      artifact {
        source      = "http://images.example/data.img"
        destination = "local/data.img"
        mode        = "file"
      }

      config {
        image_path      = "${NOMAD_TASK_DIR}/boot.qcow2"
        machine_type    = "q35"
        emulator        = "qemu-system-x86_64"
        drive_interface = "none"
        args = [
          "-device", "ahci,id=ahci0", "-device", "ide-hd,bus=ahci0.0,drive=image0,bootindex=0",
          "-hdb", "local/data.img",
          "-drive", "file=local/data.img,if=none,id=d1,readonly=on,cache=unsafe,aio=threads",
          "-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,drive=d1,bus=scsi0.0,serial=data-1",
          "-drive", "file=local/data.img,if=none,id=d2,snapshot=on", "-device", "usb-storage,drive=d2",
          "-drive", "file=local/data.img,media=cdrom",
          "-snapshot",
          "-nic", "user,model=rtl8139,mac=52:54:00:00:00:01",
          "-netdev", "tap,id=lan,br=virbr0,helper=/usr/lib/qemu/qemu-bridge-helper", "-device", "{\"driver\":\"e1000e\",\"netdev\":\"lan\"}",
          "-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-numa", "node,memdev=mem", "-m", "0.25G",
          "-chardev", "spicevmc,id=vdagent", "-device", "virtserialport,chardev=vdagent,name=com.redhat.spice.0",
          "-fsdev", "local,id=f0,path=/local,security_model=none", "-device", "virtio-9p-pci,fsdev=f0,mount_tag=host",
          "-machine", "type=q35,accel=tcg", "-M", "q35", "-accel", "tcg,thread=multi",
          "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
          "-device", "virtio-balloon-pci", "-balloon", "virtio", "-watchdog", "i6300esb",
          "-nographic", "-vnc", "none,ipv4", "-serial", "mon:stdio", "-monitor", "none", "-parallel", "none", "-display", "none",
          "-vga", "none", "-usb", "-usbdevice", "tablet", "-k", "en-us", "-name", "vm,process=vm", "-no-hpet",
          "-localtime", "-boot", "order=c,menu=off", "-uuid", "550e8400-e29b-41d4-a716-446655440000",
        ]
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
