#compdef xtask

autoload -U is-at-least

_xtask() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_xtask_commands" \
"*::: :->cargo xtask" \
&& ret=0
    case $state in
    (cargo xtask)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:xtask-command-$line[1]:"
        case $line[1] in
            (validate)
_arguments "${_arguments_options[@]}" : \
'*--require=[Fail if this linter of workflows is not installed; repeatable]:LINTER:((actionlint\:"github.com/rhysd/actionlint"
zizmor\:"docs.zizmor.sh"))' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(doctor)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--install[Install what is missing (apt, dnf or brew)]' \
'--kvm[Allow every user of this machine to use KVM by a udev rule, for CI runners]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(test)
_arguments "${_arguments_options[@]}" : \
'(--no-vm --full)*--part=[Run only these parts\: \`--part format,lint\`; \`--dry-run\` lists them]:PART:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--no-vm[Skip tests that need a virtual machine]' \
'(--no-vm)--full[Also run tests that take more than an hour\: Packer, and releases against an EC2 endpoint]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(ami)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_xtask__subcmd__ami_commands" \
"*::: :->ami" \
&& ret=0

    case $state in
    (ami)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:xtask-ami-command-$line[1]:"
        case $line[1] in
            (plan)
_arguments "${_arguments_options[@]}" : \
'--template=[Build this template instead of the one in ami.toml\: a path, \`builtin\://default-ec2\`, an \`http(s)\://\` URL with \`?checksum=sha256\:...\`, or \`git\:\:URL//PATH?ref=REF\`]:SOURCE:_default' \
'*--var=[Set a template variable (repeatable)]:NAME=VALUE:_default' \
'*--var-file=[Read template variables from a file (repeatable)]:FILE:_files' \
'--provider=[Agent to install\: \`all\`, \`claude-code\`, \`codex\`, \`gemini\`, \`aider\`, \`grok\`]:AGENT:_default' \
'--region=[Region to build in \[default\: the first one of ami.toml\]]:REGION:_default' \
'--instance-type=[Instance type of the builder on EC2 \[default\: \`build_instance_type\` of ami.toml\]]:TYPE:_default' \
'--engine=[What runs the template; auto\: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native]:ENGINE:((auto\:"Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the native engine does not support it"
native\:"This program, over SSH"
packer\:"Packer; downloaded if it is missing and ami.toml allows it"))' \
'--builder=[Where to build on this host; auto\: a virtual machine where it is accelerated, else a container]:BUILDER:((auto\:"A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine"
vm\:"A virtual machine"
container\:"A container; Linux only, as root"))' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--force[Build even if nothing changed]' \
'--keep-on-failure[Keep the machine running when a step fails, and print how to connect]' \
'()--all[Plan all images of ami.toml; with \`--format json\` the data is \`{"images"\: \[{"image"\: NAME, "up_to_date"\: ...}, ...\]}\`, a workflow'\''s matrix]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Name of the image in ami.toml \[default\: the one with `default = true`, or the only one\]:_default' \
&& ret=0
;;
(build)
_arguments "${_arguments_options[@]}" : \
'--template=[Build this template instead of the one in ami.toml\: a path, \`builtin\://default-ec2\`, an \`http(s)\://\` URL with \`?checksum=sha256\:...\`, or \`git\:\:URL//PATH?ref=REF\`]:SOURCE:_default' \
'*--var=[Set a template variable (repeatable)]:NAME=VALUE:_default' \
'*--var-file=[Read template variables from a file (repeatable)]:FILE:_files' \
'--provider=[Agent to install\: \`all\`, \`claude-code\`, \`codex\`, \`gemini\`, \`aider\`, \`grok\`]:AGENT:_default' \
'--region=[Region to build in \[default\: the first one of ami.toml\]]:REGION:_default' \
'--instance-type=[Instance type of the builder on EC2 \[default\: \`build_instance_type\` of ami.toml\]]:TYPE:_default' \
'--engine=[What runs the template; auto\: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native]:ENGINE:((auto\:"Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the native engine does not support it"
native\:"This program, over SSH"
packer\:"Packer; downloaded if it is missing and ami.toml allows it"))' \
'--builder=[Where to build on this host; auto\: a virtual machine where it is accelerated, else a container]:BUILDER:((auto\:"A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine"
vm\:"A virtual machine"
container\:"A container; Linux only, as root"))' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--force[Build even if nothing changed]' \
'--keep-on-failure[Keep the machine running when a step fails, and print how to connect]' \
'(--queue)--wait[Wait until the build has ended; this is the default]' \
'--queue[Queue the build for \`cargo xtask serve\`, print its id and return]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Name of the image in ami.toml \[default\: the one with `default = true`, or the only one\]:_default' \
&& ret=0
;;
(smoke)
_arguments "${_arguments_options[@]}" : \
'--spec=[Smoke spec to use instead of the image'\''s]:FILE:_files' \
'*--output=[Write the report as \`json=FILE\`, \`junit=FILE\` or \`tap=FILE\` (repeatable)]:FORMAT=FILE:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--no-reboot[Skip the reboot and the second pass]' \
'(--spec)--unless-passed[Skip if the image already passed this spec]' \
'--keep-on-failure[Keep the instance running when a check fails, and print how to connect]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Id or name of the image \[default\: the newest\]:_default' \
&& ret=0
;;
(copy)
_arguments "${_arguments_options[@]}" : \
'*--region=[Copy to this region (repeatable) \[default\: all regions of ami.toml\]]:REGION:_default' \
'*--best-effort-region=[Continue if this region fails (repeatable), in addition to \`best_effort_regions\` in ami.toml]:REGION:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Id or name of the image \[default\: the newest\]:_default' \
&& ret=0
;;
(promote)
_arguments "${_arguments_options[@]}" : \
'--channel=[Name of the channel]:CHANNEL:_default' \
'()--from=[Promote the image that this channel points at]:CHANNEL:_default' \
'--image=[Image of ami.toml that --from refers to, if there are several]:IMAGE:_default' \
'--override=[Promote before the soak time is over, and record this reason]:REASON:_default' \
'*--best-effort-region=[Continue if this region fails (repeatable), in addition to \`best_effort_regions\` in ami.toml]:REGION:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Id or name of the image \[default\: the newest\]:_default' \
&& ret=0
;;
(release)
_arguments "${_arguments_options[@]}" : \
'--template=[Build this template instead of the one in ami.toml\: a path, \`builtin\://default-ec2\`, an \`http(s)\://\` URL with \`?checksum=sha256\:...\`, or \`git\:\:URL//PATH?ref=REF\`]:SOURCE:_default' \
'*--var=[Set a template variable (repeatable)]:NAME=VALUE:_default' \
'*--var-file=[Read template variables from a file (repeatable)]:FILE:_files' \
'--provider=[Agent to install\: \`all\`, \`claude-code\`, \`codex\`, \`gemini\`, \`aider\`, \`grok\`]:AGENT:_default' \
'--region=[Region to build in \[default\: the first one of ami.toml\]]:REGION:_default' \
'--instance-type=[Instance type of the builder on EC2 \[default\: \`build_instance_type\` of ami.toml\]]:TYPE:_default' \
'--engine=[What runs the template; auto\: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native]:ENGINE:((auto\:"Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the native engine does not support it"
native\:"This program, over SSH"
packer\:"Packer; downloaded if it is missing and ami.toml allows it"))' \
'--builder=[Where to build on this host; auto\: a virtual machine where it is accelerated, else a container]:BUILDER:((auto\:"A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine"
vm\:"A virtual machine"
container\:"A container; Linux only, as root"))' \
'*--best-effort-region=[Continue if this region fails (repeatable), in addition to \`best_effort_regions\` in ami.toml]:REGION:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--force[Build even if nothing changed]' \
'--keep-on-failure[Keep the machine running when a step fails, and print how to connect]' \
'--allow-version[Release even if the version is too low for what changed since the last release]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Name of the image in ami.toml \[default\: the one with `default = true`, or the only one\]:_default' \
&& ret=0
;;
(bump)
_arguments "${_arguments_options[@]}" : \
'--level=[Bump this part whatever changed]:LEVEL:((patch\:"Security patches, minor version bumps, bug fixes"
minor\:"A new dependency, a significant bump of one"
major\:"Another base system, another Node.js major version"))' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'(--level)--check[Write nothing, and exit with 2 if the version of the image is too low for its changes, as \`release\` does]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- Id or name of the image to release \[default\: the newest\]:_default' \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'--channel=[Name of the channel]:CHANNEL:_default' \
'--to=[Version, name or id of the image to return to \[default\: the last good one\]]:VERSION:_default' \
'--reason=[Why the image is bad]:TEXT:_default' \
'(--keep)*--bad=[Version, name or id of an image to quarantine (repeatable) \[default\: the one that the channel points at\]]:VERSION:_default' \
'--image=[Image of ami.toml, if there are several]:IMAGE:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--keep[Quarantine no image]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(watch)
_arguments "${_arguments_options[@]}" : \
'--channel=[Name of the channel]:CHANNEL:_default' \
'--image=[Check only this image of ami.toml \[default\: all that the channel points at\]]:IMAGE:_default' \
'--for=[Keep checking for this time (48h, 30m) \[default\: check once\]]:TIME:_default' \
'--every=[Interval between two checks]:TIME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(history)
_arguments "${_arguments_options[@]}" : \
'--channel=[Name of the channel]:CHANNEL:_default' \
'--image=[Image of ami.toml, if there are several]:IMAGE:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'--region=[List only the images in this region]:REGION:_default' \
'--provider=[List only images with this agent\: \`claude-code\`, \`codex\`, ...; \`all\` for images with all of them]:AGENT:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--long[Also print the channels that point at each image, and the result of its smoke test]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(show)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':what -- Id or name of an image, or id of a run:_default' \
&& ret=0
;;
(report)
_arguments "${_arguments_options[@]}" : \
'--output=[Write the report to this file as self-contained HTML]:FILE:_files' \
'--documents=[Write the report and the image'\''s manifest.json, sbom.cdx.json and smoke.json to this directory]:DIR:_files' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::what -- Id of a run, or id or name of an image \[default\: the newest run with an image\]:_default' \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::build -- Id of the build'\''s run \[default\: the newest build\]:_default' \
&& ret=0
;;
(runs)
_arguments "${_arguments_options[@]}" : \
'--last=[Number of runs to show, newest last]:N:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--unfinished[Show only runs that can be resumed]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'()--if-any[Succeed if no run was killed, for workflows]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::run -- Id of the run, as `ami runs` lists it \[default\: the newest whose process was killed\]:_default' \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':from -- Id or name of the older image:_default' \
':to -- Id or name of the newer image:_default' \
&& ret=0
;;
(delete)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--force[Delete it even if a channel points at it]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':image -- Id or name of the image:_default' \
&& ret=0
;;
(gc)
_arguments "${_arguments_options[@]}" : \
'*--run=[Only resources of this run (repeatable)]:RUN:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--apply[Carry out the plan instead of printing it]' \
'(--run)--mine[Only resources of runs of this state directory, for the last step of a workflow]' \
'--all[Also print what is kept]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(ssm)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_xtask__subcmd__ssm_commands" \
"*::: :->ssm" \
&& ret=0

    case $state in
    (ssm)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:xtask-ssm-command-$line[1]:"
        case $line[1] in
            (status)
_arguments "${_arguments_options[@]}" : \
'*--target=[Select nodes by \`i-…\`, \`mi-…\` or \`tag\:KEY=VALUE\` (repeatable) \[default\: all\]]:NODE:_default' \
'*--region=[Search this region (repeatable) \[default\: all regions of ami.toml\]]:REGION:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--no-policy[Do not query the restart policy; no command is sent to the nodes]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(keepalive)
_arguments "${_arguments_options[@]}" : \
'*--target=[Select nodes by \`i-…\`, \`mi-…\` (hybrid activation) or \`tag\:KEY=VALUE\` (repeatable)]:NODE:_default' \
'*--region=[Search this region (repeatable) \[default\: all regions of ami.toml\]]:REGION:_default' \
'--timeout=[Timeout for each node]:TIME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(install)
_arguments "${_arguments_options[@]}" : \
'*--target=[Select nodes by \`i-…\`, \`mi-…\` (hybrid activation) or \`tag\:KEY=VALUE\` (repeatable)]:NODE:_default' \
'*--region=[Search this region (repeatable) \[default\: all regions of ami.toml\]]:REGION:_default' \
'--user=[Install the scripts for this user, as whom root'\''s dispatch scripts run agents \[default\: the one of the last install, else ubuntu\]]:USER:_default' \
'--timeout=[Timeout for each node]:TIME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(pins)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_xtask__subcmd__pins_commands" \
"*::: :->pins" \
&& ret=0

    case $state in
    (pins)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:xtask-pins-command-$line[1]:"
        case $line[1] in
            (check)
_arguments "${_arguments_options[@]}" : \
'--min-age=[Ignore releases younger than this]:TIME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(update)
_arguments "${_arguments_options[@]}" : \
'--min-age=[Ignore releases younger than this]:TIME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--propose[Open or update a pull request with the changes, or an issue where no version fixes what is due; requires git and gh]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(serve)
_arguments "${_arguments_options[@]}" : \
'--listen=[Address and port to listen on; overrides \`listen\` of \[serve\] in ami.toml]:ADDRESS:_default' \
'--tls-cert=[Certificate chain of the server, PEM; overrides \`tls_cert\`]:FILE:_files' \
'--tls-key=[Private key of the certificate, PEM; overrides \`tls_key\`]:FILE:_files' \
'--xtask=[Program that runs the builds \[default\: \`xtask\` beside this program\]]:PROGRAM:_files' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_xtask__subcmd__serve_commands" \
"*::: :->serve" \
&& ret=0

    case $state in
    (serve)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:xtask-serve-command-$line[1]:"
        case $line[1] in
            (token)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_xtask__subcmd__serve__subcmd__token_commands" \
"*::: :->token" \
&& ret=0

    case $state in
    (token)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:xtask-serve-token-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
'*--scope=[What the token permits (repeatable)]:SCOPE:((read\:"List and show builds, images and channels"
build\:"Start and cancel builds"
promote\:"Promote images and roll channels back"
delete\:"Delete images"))' \
'--expires=[Refuse the token after this time \[default\: never\]]:TIME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':name -- Name of the token, which the audit log records as the requester:_default' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(revoke)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':name -- Name of the token:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
;;
(docs)
_arguments "${_arguments_options[@]}" : \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'--check[Write nothing, and exit with 1 if a generated file is out of date]' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(iam-policy)
_arguments "${_arguments_options[@]}" : \
'(--trust)*--job=[What the role is used for (repeatable)]:JOB:((plan\:"Read only\: \`ami plan\`, \`ami gc\` without --apply, \`ami watch\`, \`pins\`"
build\:"\`ami build\`, \`ami smoke\`, \`ami copy\`, and the cleanup after them"
promote\:"\`ami promote\` and \`ami rollback\`\: channels, and the tags of the images in them"
gc\:"\`ami gc --apply\` and \`ami delete\`"
fleet\:"\`ssm keepalive\` and \`ssm install\`\: commands on nodes with the tag ManagedBy=agent-ami"
all\:"All of the above"))' \
'--trust=[Print the trust policy, which allows only workflows of this GitHub repository by OpenID Connect; missing ids are looked up with \`gh\`]:OWNER[@ID]/REPOSITORY[@ID]:_default' \
'*--environment=[Allow only jobs of this environment (repeatable)]:NAME:_default' \
'--format=[Output format\: text, or JSON Lines whose last line is the result]:FORMAT:((human\:"Text on standard error; requested documents on standard output"
json\:"JSON Lines on standard output"))' \
'--on=[Where to build and keep images]:ON:((local\:"QEMU on this machine"
aws\:"Amazon EC2"))' \
'--via=[How to connect to instances on AWS; overrides \`via\` in ami.toml]:VIA:((ssh\:"SSH, with a temporary key pair and a security group that allows one address"
ssm\:"AWS Systems Manager Run Command\: no key pair, no open port"))' \
'--state=[State directory; overrides \`local.state_dir\` in ami.toml]:DIR:_files' \
'--supervised=[Run for \`serve\` under this run id\: end when standard input closes, and wait for the build lock]:RUN:_default' \
'-v[Print every line of every step]' \
'--verbose[Print every line of every step]' \
'(-v --verbose)-q[Print only warnings and the result]' \
'(-v --verbose)--quiet[Print only warnings and the result]' \
'-y[Answer yes to every question]' \
'--yes[Answer yes to every question]' \
'--dry-run[Print what would be done, and do nothing]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
}

(( $+functions[_xtask_commands] )) ||
_xtask_commands() {
    local commands; commands=(
'validate:Validate configuration, templates, pins, smoke specs, scripts and lock files without building' \
'doctor:Check that the host tools are installed, and print how to install those that are missing' \
'test:Run the test suite, as CI does' \
'ami:Build, test, distribute and delete images' \
'ssm:Manage running servers through AWS Systems Manager' \
'pins:Check and update pinned versions' \
'serve:Serve the images API\: queue, run and follow builds over HTTP' \
'docs:Generate the reference documentation\: command line, man pages, shell completions' \
'iam-policy:Print the least-privilege IAM policy of the pipeline, or with --trust the trust policy of its role' \
    )
    _describe -t commands 'xtask commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami_commands] )) ||
_xtask__subcmd__ami_commands() {
    local commands; commands=(
'plan:Print which steps a build would run and why, and where each setting comes from' \
'build:Build an image, starting from the last cached layer that is still valid' \
'smoke:Run the smoke test on a new instance of an image, before and after a reboot' \
'copy:Copy an image to other regions' \
'promote:Point a channel at an image that passed its smoke test' \
'release:Validate, build, smoke-test and copy an image, and promote it to staging' \
'bump:Set the next version by what changed since the last release' \
'rollback:Point a channel back at the previous image in all regions, and quarantine the bad one' \
'watch:Check that the images of a channel stay available, unchanged and launchable in every region' \
'history:List the promotions and rollbacks of a channel' \
'list:List the images of all regions' \
'show:Show the details of an image, or the calls of a run' \
'report:Export the report of a run with its image'\''s manifest, SBOM and smoke report, or print where the report is' \
'status:Show the state of a build\: building, succeeded or failed, and its image' \
'runs:List the runs of this state directory' \
'resume:Resume an interrupted run' \
'diff:Compare two images\: system, tools, packages, size' \
'delete:Delete an image with its snapshots and records' \
'gc:Delete expired images and orphaned resources\: print the plan, or carry it out with --apply' \
    )
    _describe -t commands 'xtask ami commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__build_commands] )) ||
_xtask__subcmd__ami__subcmd__build_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami build commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__bump_commands] )) ||
_xtask__subcmd__ami__subcmd__bump_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami bump commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__copy_commands] )) ||
_xtask__subcmd__ami__subcmd__copy_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami copy commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__delete_commands] )) ||
_xtask__subcmd__ami__subcmd__delete_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami delete commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__diff_commands] )) ||
_xtask__subcmd__ami__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami diff commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__gc_commands] )) ||
_xtask__subcmd__ami__subcmd__gc_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami gc commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__history_commands] )) ||
_xtask__subcmd__ami__subcmd__history_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami history commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__list_commands] )) ||
_xtask__subcmd__ami__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami list commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__plan_commands] )) ||
_xtask__subcmd__ami__subcmd__plan_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami plan commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__promote_commands] )) ||
_xtask__subcmd__ami__subcmd__promote_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami promote commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__release_commands] )) ||
_xtask__subcmd__ami__subcmd__release_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami release commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__report_commands] )) ||
_xtask__subcmd__ami__subcmd__report_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami report commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__resume_commands] )) ||
_xtask__subcmd__ami__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami resume commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__rollback_commands] )) ||
_xtask__subcmd__ami__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami rollback commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__runs_commands] )) ||
_xtask__subcmd__ami__subcmd__runs_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami runs commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__show_commands] )) ||
_xtask__subcmd__ami__subcmd__show_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami show commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__smoke_commands] )) ||
_xtask__subcmd__ami__subcmd__smoke_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami smoke commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__status_commands] )) ||
_xtask__subcmd__ami__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami status commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ami__subcmd__watch_commands] )) ||
_xtask__subcmd__ami__subcmd__watch_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ami watch commands' commands "$@"
}
(( $+functions[_xtask__subcmd__docs_commands] )) ||
_xtask__subcmd__docs_commands() {
    local commands; commands=()
    _describe -t commands 'xtask docs commands' commands "$@"
}
(( $+functions[_xtask__subcmd__doctor_commands] )) ||
_xtask__subcmd__doctor_commands() {
    local commands; commands=()
    _describe -t commands 'xtask doctor commands' commands "$@"
}
(( $+functions[_xtask__subcmd__iam-policy_commands] )) ||
_xtask__subcmd__iam-policy_commands() {
    local commands; commands=()
    _describe -t commands 'xtask iam-policy commands' commands "$@"
}
(( $+functions[_xtask__subcmd__pins_commands] )) ||
_xtask__subcmd__pins_commands() {
    local commands; commands=(
'check:Report newer versions, overdue reviews and end-of-life dates of everything that is pinned' \
'update:Update pins, lock files and smoke specs together, and print the diff and the version bump that it requires' \
    )
    _describe -t commands 'xtask pins commands' commands "$@"
}
(( $+functions[_xtask__subcmd__pins__subcmd__check_commands] )) ||
_xtask__subcmd__pins__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'xtask pins check commands' commands "$@"
}
(( $+functions[_xtask__subcmd__pins__subcmd__update_commands] )) ||
_xtask__subcmd__pins__subcmd__update_commands() {
    local commands; commands=()
    _describe -t commands 'xtask pins update commands' commands "$@"
}
(( $+functions[_xtask__subcmd__serve_commands] )) ||
_xtask__subcmd__serve_commands() {
    local commands; commands=(
'token:Create, list and revoke the tokens of the images API' \
    )
    _describe -t commands 'xtask serve commands' commands "$@"
}
(( $+functions[_xtask__subcmd__serve__subcmd__token_commands] )) ||
_xtask__subcmd__serve__subcmd__token_commands() {
    local commands; commands=(
'create:Create a token and print it; only its hash is stored' \
'list:List the tokens\: name, scopes, when they were created and when they expire' \
'revoke:Revoke a token; a running server refuses it from the next request on' \
    )
    _describe -t commands 'xtask serve token commands' commands "$@"
}
(( $+functions[_xtask__subcmd__serve__subcmd__token__subcmd__create_commands] )) ||
_xtask__subcmd__serve__subcmd__token__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'xtask serve token create commands' commands "$@"
}
(( $+functions[_xtask__subcmd__serve__subcmd__token__subcmd__list_commands] )) ||
_xtask__subcmd__serve__subcmd__token__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'xtask serve token list commands' commands "$@"
}
(( $+functions[_xtask__subcmd__serve__subcmd__token__subcmd__revoke_commands] )) ||
_xtask__subcmd__serve__subcmd__token__subcmd__revoke_commands() {
    local commands; commands=()
    _describe -t commands 'xtask serve token revoke commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ssm_commands] )) ||
_xtask__subcmd__ssm_commands() {
    local commands; commands=(
'status:List managed nodes\: ping status, agent version and restart policy; exit with 1 if one is not Online' \
'keepalive:Configure systemd to restart the agent whenever it exits' \
'install:Install or update the dispatch scripts; existing dispatch*.sh files are backed up' \
    )
    _describe -t commands 'xtask ssm commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ssm__subcmd__install_commands] )) ||
_xtask__subcmd__ssm__subcmd__install_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ssm install commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ssm__subcmd__keepalive_commands] )) ||
_xtask__subcmd__ssm__subcmd__keepalive_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ssm keepalive commands' commands "$@"
}
(( $+functions[_xtask__subcmd__ssm__subcmd__status_commands] )) ||
_xtask__subcmd__ssm__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'xtask ssm status commands' commands "$@"
}
(( $+functions[_xtask__subcmd__test_commands] )) ||
_xtask__subcmd__test_commands() {
    local commands; commands=()
    _describe -t commands 'xtask test commands' commands "$@"
}
(( $+functions[_xtask__subcmd__validate_commands] )) ||
_xtask__subcmd__validate_commands() {
    local commands; commands=()
    _describe -t commands 'xtask validate commands' commands "$@"
}

if [ "$funcstack[1]" = "_xtask" ]; then
    _xtask "$@"
else
    compdef _xtask xtask
fi
