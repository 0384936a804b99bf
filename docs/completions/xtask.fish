# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_xtask_global_optspecs
    string join \n format= v/verbose q/quiet y/yes dry-run on= via= state= supervised= h/help V/version
end

function __fish_xtask_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_xtask_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_xtask_using_subcommand
    set -l cmd (__fish_xtask_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c xtask -n "__fish_xtask_needs_command" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_needs_command" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_needs_command" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_needs_command" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_needs_command" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_needs_command" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_needs_command" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_needs_command" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_needs_command" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_needs_command" -s V -l version -d 'Print version'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "validate" -d 'Validate configuration, templates, pins, smoke specs, scripts and lock files without building'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "doctor" -d 'Check that the host tools are installed, and print how to install those that are missing'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "test" -d 'Run the test suite, as CI does'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "ami" -d 'Build, test, distribute and delete images'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "ssm" -d 'Manage running servers through AWS Systems Manager'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "pins" -d 'Check and update pinned versions'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "serve" -d 'Serve the images API: queue, run and follow builds over HTTP'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "docs" -d 'Generate the reference documentation: command line, man pages, shell completions'
complete -c xtask -n "__fish_xtask_needs_command" -f -a "iam-policy" -d 'Print the least-privilege IAM policy of the pipeline, or with --trust the trust policy of its role'
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l require -d 'Fail if this linter of workflows is not installed; repeatable' -r -f -a "actionlint\t'github.com/rhysd/actionlint'
zizmor\t'docs.zizmor.sh'"
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand validate" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand validate" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand validate" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand validate" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand validate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l install -d 'Install what is missing (apt, dnf or brew)'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l kvm -d 'Allow every user of this machine to use KVM by a udev rule, for CI runners'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand test" -l part -d 'Run only these parts: `--part format,lint`; `--dry-run` lists them' -r
complete -c xtask -n "__fish_xtask_using_subcommand test" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand test" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand test" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand test" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand test" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand test" -l no-vm -d 'Skip tests that need a virtual machine'
complete -c xtask -n "__fish_xtask_using_subcommand test" -l full -d 'Also run tests that take more than an hour: Packer, and releases against an EC2 endpoint'
complete -c xtask -n "__fish_xtask_using_subcommand test" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand test" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand test" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand test" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "plan" -d 'Print which steps a build would run and why, and where each setting comes from'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "build" -d 'Build an image, starting from the last cached layer that is still valid'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "smoke" -d 'Run the smoke test on a new instance of an image, before and after a reboot'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "copy" -d 'Copy an image to other regions'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "promote" -d 'Point a channel at an image that passed its smoke test'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "release" -d 'Validate, build, smoke-test and copy an image, and promote it to staging'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "bump" -d 'Set the next version by what changed since the last release'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "rollback" -d 'Point a channel back at the previous image in all regions, and quarantine the bad one'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "watch" -d 'Check that the images of a channel stay available, unchanged and launchable in every region'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "history" -d 'List the promotions and rollbacks of a channel'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "list" -d 'List the images of all regions'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "show" -d 'Show the details of an image, or the calls of a run'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "report" -d 'Export the report of a run with its image\'s manifest, SBOM and smoke report, or print where the report is'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "status" -d 'Show the state of a build: building, succeeded or failed, and its image'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "runs" -d 'List the runs of this state directory'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "resume" -d 'Resume an interrupted run'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "diff" -d 'Compare two images: system, tools, packages, size'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "delete" -d 'Delete an image with its snapshots and records'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and not __fish_seen_subcommand_from plan build smoke copy promote release bump rollback watch history list show report status runs resume diff delete gc" -f -a "gc" -d 'Delete expired images and orphaned resources: print the plan, or carry it out with --apply'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l template -d 'Build this template instead of the one in ami.toml: a path, `builtin://default-ec2`, an `http(s)://` URL with `?checksum=sha256:...`, or `git::URL//PATH?ref=REF`' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l var -d 'Set a template variable (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l var-file -d 'Read template variables from a file (repeatable)' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l provider -d 'Agent to install: `all`, `claude-code`, `codex`, `gemini`, `aider`, `grok`' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l region -d 'Region to build in [default: the first one of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l instance-type -d 'Instance type of the builder on EC2 [default: `build_instance_type` of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l engine -d 'What runs the template; auto: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native' -r -f -a "auto\t'Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the native engine does not support it'
native\t'This program, over SSH'
packer\t'Packer; downloaded if it is missing and ami.toml allows it'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l builder -d 'Where to build on this host; auto: a virtual machine where it is accelerated, else a container' -r -f -a "auto\t'A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine'
vm\t'A virtual machine'
container\t'A container; Linux only, as root'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l force -d 'Build even if nothing changed'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l keep-on-failure -d 'Keep the machine running when a step fails, and print how to connect'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l all -d 'Plan all images of ami.toml; with `--format json` the data is `{"images": [{"image": NAME, "up_to_date": ...}, ...]}`, a workflow\'s matrix'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l template -d 'Build this template instead of the one in ami.toml: a path, `builtin://default-ec2`, an `http(s)://` URL with `?checksum=sha256:...`, or `git::URL//PATH?ref=REF`' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l var -d 'Set a template variable (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l var-file -d 'Read template variables from a file (repeatable)' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l provider -d 'Agent to install: `all`, `claude-code`, `codex`, `gemini`, `aider`, `grok`' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l region -d 'Region to build in [default: the first one of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l instance-type -d 'Instance type of the builder on EC2 [default: `build_instance_type` of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l engine -d 'What runs the template; auto: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native' -r -f -a "auto\t'Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the native engine does not support it'
native\t'This program, over SSH'
packer\t'Packer; downloaded if it is missing and ami.toml allows it'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l builder -d 'Where to build on this host; auto: a virtual machine where it is accelerated, else a container' -r -f -a "auto\t'A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine'
vm\t'A virtual machine'
container\t'A container; Linux only, as root'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l force -d 'Build even if nothing changed'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l keep-on-failure -d 'Keep the machine running when a step fails, and print how to connect'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l wait -d 'Wait until the build has ended; this is the default'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l queue -d 'Queue the build for `cargo xtask serve`, print its id and return'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l spec -d 'Smoke spec to use instead of the image\'s' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l output -d 'Write the report as `json=FILE`, `junit=FILE` or `tap=FILE` (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l no-reboot -d 'Skip the reboot and the second pass'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l unless-passed -d 'Skip if the image already passed this spec'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l keep-on-failure -d 'Keep the instance running when a check fails, and print how to connect'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from smoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l region -d 'Copy to this region (repeatable) [default: all regions of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l best-effort-region -d 'Continue if this region fails (repeatable), in addition to `best_effort_regions` in ami.toml' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from copy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l channel -d 'Name of the channel' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l from -d 'Promote the image that this channel points at' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l image -d 'Image of ami.toml that --from refers to, if there are several' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l override -d 'Promote before the soak time is over, and record this reason' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l best-effort-region -d 'Continue if this region fails (repeatable), in addition to `best_effort_regions` in ami.toml' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from promote" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l template -d 'Build this template instead of the one in ami.toml: a path, `builtin://default-ec2`, an `http(s)://` URL with `?checksum=sha256:...`, or `git::URL//PATH?ref=REF`' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l var -d 'Set a template variable (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l var-file -d 'Read template variables from a file (repeatable)' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l provider -d 'Agent to install: `all`, `claude-code`, `codex`, `gemini`, `aider`, `grok`' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l region -d 'Region to build in [default: the first one of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l instance-type -d 'Instance type of the builder on EC2 [default: `build_instance_type` of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l engine -d 'What runs the template; auto: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native' -r -f -a "auto\t'Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the native engine does not support it'
native\t'This program, over SSH'
packer\t'Packer; downloaded if it is missing and ami.toml allows it'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l builder -d 'Where to build on this host; auto: a virtual machine where it is accelerated, else a container' -r -f -a "auto\t'A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine'
vm\t'A virtual machine'
container\t'A container; Linux only, as root'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l best-effort-region -d 'Continue if this region fails (repeatable), in addition to `best_effort_regions` in ami.toml' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l force -d 'Build even if nothing changed'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l keep-on-failure -d 'Keep the machine running when a step fails, and print how to connect'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l allow-version -d 'Release even if the version is too low for what changed since the last release'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l level -d 'Bump this part whatever changed' -r -f -a "patch\t'Security patches, minor version bumps, bug fixes'
minor\t'A new dependency, a significant bump of one'
major\t'Another base system, another Node.js major version'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l check -d 'Write nothing, and exit with 2 if the version of the image is too low for its changes, as `release` does'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from bump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l channel -d 'Name of the channel' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l to -d 'Version, name or id of the image to return to [default: the last good one]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l reason -d 'Why the image is bad' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l bad -d 'Version, name or id of an image to quarantine (repeatable) [default: the one that the channel points at]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l image -d 'Image of ami.toml, if there are several' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l keep -d 'Quarantine no image'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l channel -d 'Name of the channel' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l image -d 'Check only this image of ami.toml [default: all that the channel points at]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l for -d 'Keep checking for this time (48h, 30m) [default: check once]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l every -d 'Interval between two checks' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l channel -d 'Name of the channel' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l image -d 'Image of ami.toml, if there are several' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l region -d 'List only the images in this region' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l provider -d 'List only images with this agent: `claude-code`, `codex`, ...; `all` for images with all of them' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l long -d 'Also print the channels that point at each image, and the result of its smoke test'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l output -d 'Write the report to this file as self-contained HTML' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l documents -d 'Write the report and the image\'s manifest.json, sbom.cdx.json and smoke.json to this directory' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l last -d 'Number of runs to show, newest last' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l unfinished -d 'Show only runs that can be resumed'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from runs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l if-any -d 'Succeed if no run was killed, for workflows'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l force -d 'Delete it even if a channel points at it'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l run -d 'Only resources of this run (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l apply -d 'Carry out the plan instead of printing it'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l mine -d 'Only resources of runs of this state directory, for the last step of a workflow'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l all -d 'Also print what is kept'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ami; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -f -a "status" -d 'List managed nodes: ping status, agent version and restart policy; exit with 1 if one is not Online'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -f -a "keepalive" -d 'Configure systemd to restart the agent whenever it exits'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and not __fish_seen_subcommand_from status keepalive install" -f -a "install" -d 'Install or update the dispatch scripts; existing dispatch*.sh files are backed up'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l target -d 'Select nodes by `i-…`, `mi-…` or `tag:KEY=VALUE` (repeatable) [default: all]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l region -d 'Search this region (repeatable) [default: all regions of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l no-policy -d 'Do not query the restart policy; no command is sent to the nodes'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l target -d 'Select nodes by `i-…`, `mi-…` (hybrid activation) or `tag:KEY=VALUE` (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l region -d 'Search this region (repeatable) [default: all regions of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l timeout -d 'Timeout for each node' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from keepalive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l target -d 'Select nodes by `i-…`, `mi-…` (hybrid activation) or `tag:KEY=VALUE` (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l region -d 'Search this region (repeatable) [default: all regions of ami.toml]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l user -d 'Install the scripts for this user, as whom root\'s dispatch scripts run agents [default: the one of the last install, else ubuntu]' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l timeout -d 'Timeout for each node' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand ssm; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -f -a "check" -d 'Report newer versions, overdue reviews and end-of-life dates of everything that is pinned'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and not __fish_seen_subcommand_from check update" -f -a "update" -d 'Update pins, lock files and smoke specs together, and print the diff and the version bump that it requires'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l min-age -d 'Ignore releases younger than this' -r
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l min-age -d 'Ignore releases younger than this' -r
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l propose -d 'Open or update a pull request with the changes, or an issue where no version fixes what is due; requires git and gh'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand pins; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l listen -d 'Address and port to listen on; overrides `listen` of [serve] in ami.toml' -r
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l tls-cert -d 'Certificate chain of the server, PEM; overrides `tls_cert`' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l tls-key -d 'Private key of the certificate, PEM; overrides `tls_key`' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l xtask -d 'Program that runs the builds [default: `xtask` beside this program]' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and not __fish_seen_subcommand_from token" -f -a "token" -d 'Create, list and revoke the tokens of the images API'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -f -a "create" -d 'Create a token and print it; only its hash is stored'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -f -a "list" -d 'List the tokens: name, scopes, when they were created and when they expire'
complete -c xtask -n "__fish_xtask_using_subcommand serve; and __fish_seen_subcommand_from token" -f -a "revoke" -d 'Revoke a token; a running server refuses it from the next request on'
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l check -d 'Write nothing, and exit with 1 if a generated file is out of date'
complete -c xtask -n "__fish_xtask_using_subcommand docs" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand docs" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand docs" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand docs" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand docs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l job -d 'What the role is used for (repeatable)' -r -f -a "plan\t'Read only: `ami plan`, `ami gc` without --apply, `ami watch`, `pins`'
build\t'`ami build`, `ami smoke`, `ami copy`, and the cleanup after them'
promote\t'`ami promote` and `ami rollback`: channels, and the tags of the images in them'
gc\t'`ami gc --apply` and `ami delete`'
fleet\t'`ssm keepalive` and `ssm install`: commands on nodes with the tag ManagedBy=agent-ami'
all\t'All of the above'"
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l trust -d 'Print the trust policy, which allows only workflows of this GitHub repository by OpenID Connect; missing ids are looked up with `gh`' -r
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l environment -d 'Allow only jobs of this environment (repeatable)' -r
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l format -d 'Output format: text, or JSON Lines whose last line is the result' -r -f -a "human\t'Text on standard error; requested documents on standard output'
json\t'JSON Lines on standard output'"
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l on -d 'Where to build and keep images' -r -f -a "local\t'QEMU on this machine'
aws\t'Amazon EC2'"
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l via -d 'How to connect to instances on AWS; overrides `via` in ami.toml' -r -f -a "ssh\t'SSH, with a temporary key pair and a security group that allows one address'
ssm\t'AWS Systems Manager Run Command: no key pair, no open port'"
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l state -d 'State directory; overrides `local.state_dir` in ami.toml' -r -F
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l supervised -d 'Run for `serve` under this run id: end when standard input closes, and wait for the build lock' -r
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -s v -l verbose -d 'Print every line of every step'
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -s q -l quiet -d 'Print only warnings and the result'
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -s y -l yes -d 'Answer yes to every question'
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -l dry-run -d 'Print what would be done, and do nothing'
complete -c xtask -n "__fish_xtask_using_subcommand iam-policy" -s h -l help -d 'Print help (see more with \'--help\')'
