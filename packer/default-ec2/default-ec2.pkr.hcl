# The steps of the image, the same for all sources. Each step runs one script and gets only the pins that it uses, so that
# a changed pin reruns that step and the later ones, and no earlier one. The first steps are those of packer/locus-ami.pkr.hcl, and builds share
# their layers.

# The block has no name, so that `packer build -only='qemu.*'` matches its source.
build {
  sources = ["source.amazon-ebs.default-ec2", "source.qemu.default-ec2"]

  # Not in /tmp, because a later build may boot from the layer after this step. Creates every upload directory, because Packer creates none.
  provisioner "shell" {
    inline = ["mkdir -p /var/tmp/agent-ami/node"]
  }

  provisioner "file" {
    source      = "${path.root}/../../scripts/lib"
    destination = "/var/tmp/agent-ami"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/10-base.sh"
    environment_vars = ["EXTRA_PACKAGES=${var.extra_packages}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/20-git.sh"
    environment_vars = ["GIT_MINIMUM=${local.pins.git.version}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../../scripts/npm/node-${var.node_version}/"
    destination = "/var/tmp/agent-ami/node"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/30-node.sh"
    environment_vars = ["NODE_MAJOR=${var.node_version}", "NPM_BOOTSTRAP=${local.npm_bootstrap}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/32-python.sh"
    environment_vars = ["PYTHON_VERSION=${local.python.version}", "PYTHON_SHA256=${local.python.sha256}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/34-go.sh"
    environment_vars = ["GO_VERSION=${local.pins.go.version}", "GO_SHA256=${local.pins.go.sha256}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script = "${path.root}/../../scripts/provision/36-rust.sh"
    environment_vars = [
      "RUST_VERSION=${local.pins.rustc.version}", "RUST_SHA256=${local.pins.rustc.sha256}",
      "RUSTUP_VERSION=${local.pins.rustup.version}", "RUSTUP_SHA256=${local.pins.rustup.sha256}",
    ]
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/38-user.sh"
    environment_vars = ["LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../../scripts/npm/package.json"
    destination = "/var/tmp/agent-ami/package.json"
  }

  provisioner "file" {
    source      = "${path.root}/../../scripts/npm/package-lock.json"
    destination = "/var/tmp/agent-ami/package-lock.json"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/40-agents.sh"
    environment_vars = ["PROVIDER=${var.provider}", "LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../../scripts/pip/aider/requirements.txt"
    destination = "/var/tmp/agent-ami/aider-requirements.txt"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/42-aider.sh"
    environment_vars = ["PROVIDER=${var.provider}", "LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/45-pm2-boot.sh"
    environment_vars = ["LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/../../scripts/agent"
    destination = "/var/tmp/agent-ami"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/47-runtime.sh"
    environment_vars = ["LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../../scripts/provision/50-sshd.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../../scripts/provision/55-ufw.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../../scripts/provision/60-fail2ban.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/../../scripts/provision/65-unattended-upgrades.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/70-boot.sh"
    environment_vars = ["LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "shell" {
    script           = "${path.root}/../../scripts/provision/80-manifest.sh"
    environment_vars = ["PROVIDER=${var.provider}", "BUILD_FACTS=${var.build_facts}", "LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  # The last step always runs: it selects the account of instances, cleans the disk for capture, and verifies the result.
  provisioner "shell" {
    scripts = [
      "${path.root}/../../scripts/provision/85-login.sh",
      "${path.root}/../../scripts/provision/90-cleanup.sh",
      "${path.root}/../../scripts/provision/95-verify-clean.sh",
    ]
    environment_vars = ["LOGIN_USER=${local.login_user}"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  post-processor "manifest" {
    output     = "packer-manifest.json"
    strip_path = true
  }
}
