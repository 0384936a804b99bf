# Input variables; set by -var, PKR_VAR_*, *.auto.pkrvars.hcl or [images.*.vars] in ami.toml.

variable "ami_name_prefix" {
  type        = string
  default     = "default-ec2"
  description = "First part of the image's name; agent-ami sets it to the name in ami.toml"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", var.ami_name_prefix))
    error_message = "Use letters, digits, dots, underscores and dashes."
  }
}

variable "ami_version" {
  type        = string
  default     = "1.0.0"
  description = "Semantic version of the image"

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.ami_version))
    error_message = "Write MAJOR.MINOR.PATCH."
  }
}

variable "provider" {
  type        = string
  default     = "claude-code"
  description = "The agent to install: claude-code, codex, gemini, grok, aider, all"

  validation {
    condition     = var.provider != "cursor"
    error_message = "Cursor's command line cannot be pinned: its installer has no published hashes, and no registry has an official package."
  }

  validation {
    condition     = contains(["all", "claude-code", "codex", "gemini", "aider", "grok", "cursor"], var.provider)
    error_message = "Choose claude-code, codex, gemini, grok, aider or all."
  }
}

variable "node_version" {
  type        = string
  default     = "20"
  description = "Node.js major version: 20, 22, 24, 26"

  validation {
    condition     = contains(["20", "22", "24", "26"], var.node_version)
    error_message = "Choose 20, 22, 24 or 26; scripts/npm/ has a lock file for each."
  }
}

variable "extra_packages" {
  type        = string
  default     = ""
  description = "Further apt packages, separated by spaces"

  validation {
    condition     = can(regex("^[a-z0-9+. -]*$", var.extra_packages))
    error_message = "Use package names separated by spaces."
  }
}

variable "region" {
  type        = string
  default     = ""
  description = "Region in which the AMI is built; empty for aws_region, or us-east-1 if that is empty too"
}

variable "aws_region" {
  type        = string
  default     = ""
  description = "The same region; agent-ami sets it to the first one of [regions] in ami.toml"
}

variable "base_ami" {
  type        = string
  default     = ""
  description = "Base AMI id; empty for Canonical's newest Ubuntu 22.04"
}

variable "instance_type" {
  type        = string
  default     = "t3.medium"
  description = "Instance type of the builder"
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Subnet of the builder; empty for the default VPC"
}

variable "ssh_host" {
  type        = string
  default     = ""
  description = "Address of a tunnel or bastion to connect to; empty for the builder's own address"
}

variable "ssh_port" {
  type        = number
  default     = 22
  description = "TCP port of the builder's sshd"
}

variable "ssh_cidrs" {
  type        = list(string)
  default     = []
  description = "CIDR blocks that may connect to the builder; empty for the caller's own address"
}

variable "volume_iops" {
  type        = number
  default     = 3000
  description = "IOPS of the builder's gp3 root volume"
}

variable "volume_throughput" {
  type        = number
  default     = 250
  description = "Throughput of the builder's gp3 root volume in MiB/s"
}

variable "run_id" {
  type        = string
  default     = ""
  description = "Run id, in a tag of every resource of the build, by which orphaned resources are found"
}

variable "build_facts" {
  type        = string
  default     = ""
  description = "Base, recipe hash and time of a build with Packer, as JSON; becomes `build` in the image's manifest"
}

variable "qemu_base" {
  type        = string
  default     = ".agent-ami/base/debian-13/disk.qcow2"
  description = "Base disk (qcow2) for Packer's qemu plugin; the default is the one that `cargo xtask ami build` creates"
}

variable "qemu_seed" {
  type        = string
  default     = ".agent-ami/packer/seed"
  description = "Directory with cloud-init's NoCloud seed (meta-data, user-data) for Packer's qemu plugin"
}

variable "qemu_private_key" {
  type        = string
  default     = ""
  description = "Path of the SSH private key whose public key is in the seed"
}

variable "qemu_accelerator" {
  type        = string
  default     = "tcg"
  description = "QEMU accelerator: kvm, hvf, tcg"
}

variable "output_directory" {
  type        = string
  default     = "output-qemu"
  description = "Directory into which Packer's qemu plugin writes the disk"
}
