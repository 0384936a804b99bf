# The steps of the image, the same for all sources. Each step runs one script and gets only the pins that it uses, so that
# a changed pin reruns that step and the later ones, and no earlier one.

# The block has no name, so that `packer build -only='qemu.*'` matches its source.
build {
  sources = ["source.amazon-ebs.locus", "source.qemu.locus"]

  # Not in /tmp, because a later build may boot from the layer after this step. Creates every upload directory, because Packer creates none.
  provisioner "shell" {
    inline = ["mkdir -p /var/tmp/agent-ami/node"]
  }

  provisioner "file" {
    source      = "${path.root}/../scripts/lib"
    destination = "/var/tmp/agent-ami"
  }

  provisioner "shell" {
    script           = "${path.root}/../scripts/provision/10-base.sh"
    environment_vars = ["EXTRA_PACKAGES=${var.extra_packages}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../scripts/provision/20-git.sh"
    environment_vars = ["GIT_MINIMUM=${local.pins.git.version}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../scripts/npm/node-${local.node_major}/"
    destination = "/var/tmp/agent-ami/node"
  }

  provisioner "shell" {
    script           = "${path.root}/../scripts/provision/30-node.sh"
    environment_vars = ["NODE_MAJOR=${local.node_major}", "NPM_BOOTSTRAP=${local.npm_bootstrap}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../scripts/npm/package.json"
    destination = "/var/tmp/agent-ami/package.json"
  }

  provisioner "file" {
    source      = "${path.root}/../scripts/npm/package-lock.json"
    destination = "/var/tmp/agent-ami/package-lock.json"
  }

  provisioner "shell" {
    script           = "${path.root}/../scripts/provision/40-agents.sh"
    environment_vars = ["PROVIDER=${var.provider}", "LOCUS_PACKAGE=${var.locus_package}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../scripts/pip/aider/requirements.txt"
    destination = "/var/tmp/agent-ami/aider-requirements.txt"
  }

  provisioner "shell" {
    script           = "${path.root}/../scripts/provision/42-aider.sh"
    environment_vars = ["PROVIDER=${var.provider}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/45-pm2-boot.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../scripts/agent"
    destination = "/var/tmp/agent-ami"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/47-runtime.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/50-sshd.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/55-ufw.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/60-fail2ban.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/65-unattended-upgrades.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../scripts/provision/70-boot.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../scripts/provision/80-manifest.sh"
    environment_vars = ["PROVIDER=${var.provider}", "BUILD_FACTS=${var.build_facts}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  # The last step always runs: it cleans the disk for capture, and verifies the result.
  provisioner "shell" {
    scripts = [
      "${path.root}/../scripts/provision/90-cleanup.sh",
      "${path.root}/../scripts/provision/95-verify-clean.sh",
    ]
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  post-processor "manifest" {
    output     = "packer-manifest.json"
    strip_path = true
  }
}
