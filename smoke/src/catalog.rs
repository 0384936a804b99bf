//! What each check asserts and how to fix a failure, in Markdown. The reference of the smoke checks is generated from it.

/// Description of a check, or of a family of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the check. `*` at the end makes it a family: it matches each name with this prefix.
    pub name: &'static str,
    /// What must hold on the instance for the check to pass.
    pub asserts: &'static str,
    /// What to do if it fails.
    pub fix: &'static str,
}

impl Entry {
    fn matches(&self, check: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => check.starts_with(prefix),
            None => self.name == check,
        }
    }
}

/// The entry of a check: the one with exactly this name, else the family with the longest matching prefix.
pub fn entry(name: &str) -> Option<&'static Entry> {
    let exact = CATALOG.iter().find(|entry| entry.name == name);
    exact.or_else(|| CATALOG.iter().filter(|entry| entry.matches(name)).max_by_key(|entry| entry.name.len()))
}

/// All entries, in the order in which the checks are listed.
pub const CATALOG: &[Entry] = &[
    Entry {
        name: "tool-*",
        asserts: "The program is on the login user's PATH, its `command` (by default `NAME --version`) exits with 0, and the version in its output meets \
            `version`, if that is set. The program of an `agent` is required only if the manifest names this agent, or `all`, as `provider`.",
        fix: "Install the program in a script of `scripts/provision/`, or correct its `[[tool]]` section. `cargo xtask pins update` changes the \
            pin, the lock file and the spec together.",
    },
    Entry {
        name: "compiler",
        asserts: "The login user can compile a C program with `cc` and run it.",
        fix: "Install `build-essential` (`10-base.sh`).",
    },
    Entry {
        name: "npm",
        asserts: "`npm install` as the login user packs a local package and installs it into another project without a network, and the installed \
            program runs.",
        fix: "Remove a `~/.npm` that root owns (`90-cleanup.sh` does), and check the npm installation of `30-node.sh`.",
    },
    Entry {
        name: "bun",
        asserts: "`bun run` as the login user executes a TypeScript file.",
        fix: "Check the installation of Bun in `40-agents.sh`: its native binary is put in place by a lifecycle script of npm.",
    },
    Entry {
        name: "git-clone",
        asserts: "`git clone` as the login user clones the git bundle of the fixtures, and `git fsck` accepts the clone.",
        fix: "Remove Git settings of the system or the user that prevent it (`git config --list --show-origin`).",
    },
    Entry {
        name: "manifest",
        asserts: "`/etc/agent-ami/manifest.json` has schema 1, the recipe hash of the build, the operating system of the instance, and for each listed \
            program the version that it prints.",
        fix: "Install programs before `80-manifest.sh` runs, and change none after it.",
    },
    Entry {
        name: "sbom",
        asserts: "`/etc/agent-ami/sbom.cdx.json` is a CycloneDX document that lists every installed Debian package, except those installed after it was \
            written, and the npm `package` of each required tool in its installed version.",
        fix: "Install packages before `80-manifest.sh` runs. Set `package` in `[[tool]]` to the name of the npm package.",
    },
    Entry {
        name: "pm2-process",
        asserts: "PM2 starts a process of the login user, lists it as online with a pid, and ends it with `pm2 delete`.",
        fix: "Make the login user the owner of `~/.pm2`, and check `pm2-USER.service` (`45-pm2-boot.sh`).",
    },
    Entry {
        name: "pm2-boot-unit",
        asserts: "The `unit` of `[pm2]` is enabled, and active after the boot.",
        fix: "Enable the unit in `45-pm2-boot.sh`. `journalctl -b -u UNIT` shows why it did not start; another PM2 daemon of the user, or a missing \
            `~/.pm2/dump.pm2`, makes it fail.",
    },
    Entry {
        name: "pm2-logs",
        asserts: "`logrotate.timer` is enabled and active, and logrotate rotates a log in `~/.pm2/logs` that is longer than `log_max_mib`.",
        fix: "Set `maxsize` in `/etc/logrotate.d/pm2-USER` to at most `log_max_mib`, and enable the timer (`45-pm2-boot.sh`).",
    },
    Entry {
        name: "ufw-active",
        asserts: "`ufw status` reports that UFW is active.",
        fix: "Run `ufw --force enable` and enable `ufw.service` (`55-ufw.sh`).",
    },
    Entry {
        name: "ufw-default-deny",
        asserts: "The default policy of UFW for incoming connections is `deny` or `reject`.",
        fix: "Run `ufw default deny incoming` (`55-ufw.sh`).",
    },
    Entry {
        name: "ufw-allowed-ports",
        asserts: "The ports with a UFW rule that allows or limits incoming connections, of IPv4 and IPv6 together, are exactly those of `allow`.",
        fix: "Add or delete the rule in `55-ufw.sh`, or change `allow` in `[ufw]`.",
    },
    Entry {
        name: "ufw-blocks",
        asserts: "A second host, a network namespace with an address for documentation, can connect to the first TCP port of `allow`, and cannot \
            connect to a listener on another port.",
        fix: "Look for rules that accept packets before UFW's: `iptables -S INPUT`, `nft list ruleset`. If the allowed port does not answer, check its \
            service.",
    },
    Entry {
        name: "fail2ban-running",
        asserts: "The fail2ban server answers `fail2ban-client ping` after the boot.",
        fix: "Enable `fail2ban.service` (`60-fail2ban.sh`). `journalctl -b -u fail2ban` shows why it did not start.",
    },
    Entry {
        name: "fail2ban-*",
        asserts: "`fail2ban-client get JAIL NAME` prints the value of the setting in `settings`.",
        fix: "Set the value in `/etc/fail2ban/jail.local` (`60-fail2ban.sh`), or change `settings` in `[fail2ban]`. A file in `/etc/fail2ban/jail.d` may \
            override it.",
    },
    Entry {
        name: "fail2ban-counts",
        asserts: "Logins over SSH as an unknown user from a second host are refused, and of up to three the jail counts at least one, within 15 s.",
        fix: "Set `backend = systemd` for the jail (without rsyslog, sshd has no log file), and check that `ignoreip` does not contain \
            the addresses for documentation (RFC 5737), which the second host uses.",
    },
    Entry {
        name: "sshd-*",
        asserts: "`sshd -T` prints the value in `effective` for the option, for root and for the login user, with all drop-ins and `Match` blocks.",
        fix: "Set the option in `/etc/ssh/sshd_config.d/00-agent-ami.conf` (`50-sshd.sh`): sshd uses the first value that it reads, and a drop-in that \
            sorts before it, or a `Match` block, takes precedence.",
    },
    Entry {
        name: "root-login-refused",
        asserts: "The running sshd refuses root with an authorized key. As a control, the same key must be accepted for the login user.",
        fix: "Set `PermitRootLogin no` (`50-sshd.sh`) and reload sshd. If the control failed, make logins of the login user with a key work.",
    },
    Entry {
        name: "password-login-refused",
        asserts: "The running sshd refuses a user who has a password and gives the correct one.",
        fix: "Set `PasswordAuthentication no` and `KbdInteractiveAuthentication no` (`50-sshd.sh`) and reload sshd.",
    },
    Entry {
        name: "unattended-upgrades",
        asserts: "`unattended-upgrade` is installed. In the effective configuration of apt, `APT::Periodic::Update-Package-Lists` and \
            `APT::Periodic::Unattended-Upgrade` are at least 1, `APT::Periodic::Enable` is not 0, and the origins of unattended-upgrades include a \
            security archive.",
        fix: "Set the values in `/etc/apt/apt.conf.d/20auto-upgrades` (`65-unattended-upgrades.sh`). `apt-config dump` prints the effective ones; a file \
            that sorts after it overrides it.",
    },
    Entry {
        name: "security-updates",
        asserts: "No installed package is older than its version in `/etc/agent-ami/security-versions`, where the build writes the versions of the \
            security archive.",
        fix: "`apt-mark showhold` lists packages that are held back. Run `apt-mark unhold` before the updates of `10-base.sh`, and build the image again.",
    },
    Entry {
        name: "timer-*",
        asserts: "The timer is enabled and active.",
        fix: "Enable the timer with `systemctl enable --now` (`65-unattended-upgrades.sh`), or remove it from `timers` in `[unattended_upgrades]`.",
    },
    Entry {
        name: "dispatch-is-roots",
        asserts: "Root owns the dispatch scripts, their directory and the directories above it, and no other account can write to them. In the directory \
            `links`, each script has a link, and `runs` and `repos` are directories that the login user owns.",
        fix: "Install the scripts again with `install.sh` (`47-runtime.sh`), and change nothing in their directory afterwards.",
    },
    Entry {
        name: "dispatch-drops",
        asserts: "`dispatch.sh`, called by root without a terminal, runs the agent with the uid, gid, groups and home of the login user, with \
            `NoNewPrivs`, with the API key of root's environment and without its other variables. It passes the task, its status is 0, and the login \
            user owns all files of the run.",
        fix: "Correct `scripts/agent/lib/become.sh`, and the list of variables in `scripts/agent/lib/entry.sh`.",
    },
    Entry {
        name: "dispatch-env-file",
        asserts: "`dispatch.sh`, called by root, reads the login user's `.env`, and not as root.",
        fix: "Let `scripts/agent/lib/inputs.sh` read `.env` only after the change to the login user.",
    },
    Entry {
        name: "dispatch-isolates",
        asserts: "An agent that root starts with `DISPATCH_ISOLATE=1` cannot become root, reach files and processes of other users, use services of the \
            system or the instance's credentials, or exceed its limits: each of about 50 attempts is refused, and what an agent needs works. The \
            properties of its unit do not contain its API key, and its background processes end with it. In a container that does not enforce the \
            sandbox, the check passes if dispatch refuses the run.",
        fix: "The message names the attempt, which is in `smoke/src/checks/isolate/attempts.sh`. Add the restriction to `scripts/agent/lib/isolate.sh`.",
    },
    Entry {
        name: "ssm-agent-policy",
        asserts: "The unit of the Systems Manager agent (snap or package) has `Restart=always`, `RestartSec=` of `restart_secs` and no start limit, and \
            keeps the package's `RestartPreventExitStatus=194`. On an instance without the agent, a placeholder unit is checked.",
        fix: "Run `ssm-keepalive.sh` (`47-runtime.sh`). `systemctl cat UNIT` shows a drop-in that overrides it.",
    },
    Entry {
        name: "ssm-agent-comes-back",
        asserts: "After a SIGKILL, systemd restarts the Systems Manager agent, or its placeholder unit, within `restart_secs` and a minute.",
        fix: "`systemctl status UNIT` shows why it did not start again. `ssm-agent-policy` checks the settings.",
    },
    Entry {
        name: "accounts",
        asserts: "Only root has uid 0. No account or group has a password, a locked one included, or an empty password field. Only the accounts of \
            `shells` have a login shell. Only root and the accounts of `sudo` are members of groups such as `sudo`, `docker` or `disk`.",
        fix: "Remove the account, its password or its membership, or list it in `shells` or `sudo` of `[accounts]`.",
    },
    Entry {
        name: "sudo",
        asserts: "`sudo -l` allows commands only for root and the accounts of `sudo`. Each file of the sudo configuration belongs to a package and is \
            unmodified, or is in `sudoers`.",
        fix: "Remove the rule or the file from `/etc/sudoers.d`, or list it in `[accounts]`.",
    },
    Entry {
        name: "privileged-files",
        asserts: "Each executable with a set-user-ID or set-group-ID bit is in `setuid`, and each with file capabilities is in `capabilities`, on all \
            file systems that are mounted without `nosuid`.",
        fix: "Remove the bit (`chmod u-s,g-s`) or the capabilities (`setcap -r`), or list the file in `[privileged]`.",
    },
    Entry {
        name: "scheduled-jobs",
        asserts: "Each file of cron, at, systemd, cloud-init, `/etc/init.d`, `/etc/profile.d` and `/etc/update-motd.d` belongs to a package and is \
            unmodified, or is in `files`.",
        fix: "Remove the file, or list it in `[jobs]`.",
    },
    Entry {
        name: "path-directories",
        asserts: "All directories on the PATH of root (login shell, systemd, sudo) and of the login user, and the directories above them, are absolute, \
            and only root and, for its own PATH, the login user can write to them.",
        fix: "Correct owner and mode (`chown root`, `chmod go-w`), or remove the directory from the PATH.",
    },
    Entry {
        name: "listening-sockets",
        asserts: "Each socket of `listen` listened before the first check ran, and no other socket except those of `may_listen`, in IPv4 and IPv6.",
        fix: "The message names the program. Disable its service, bind it to the loopback interface, or list the socket in `[network]`.",
    },
    Entry {
        name: "clock",
        asserts: "A service that synchronises the clock (systemd-timesyncd, chrony, ntpsec or ntp) is enabled and, except in a container, active. The \
            clock is at most 60 s off the time of the machine that started the smoke test; without that time, `timedatectl` must report it as \
            synchronised.",
        fix: "Enable the service (`10-base.sh`). If the clock is off, check that the instance can reach its time server.",
    },
    Entry {
        name: "names",
        asserts: "`localhost` and the host name are resolved, the login user can read `/etc/resolv.conf`, and its first name server answers.",
        fix: "Check `/etc/hosts`, `/etc/resolv.conf` and, where it is a link, `systemd-resolved.service`.",
    },
    Entry {
        name: "systemd-units",
        asserts: "systemd has finished booting, and no unit has failed. Units of isolated runs (`agent-ami-*`) do not count.",
        fix: "`systemctl --failed` lists the units, `journalctl -b -u UNIT` shows the reason.",
    },
    Entry {
        name: "cloud-init",
        asserts: "The status of cloud-init is `done`, without errors.",
        fix: "`cloud-init status --long` and `/var/log/cloud-init.log` show the error.",
    },
    Entry {
        name: "disk-size",
        asserts: "The root file system has at least `root_min_gib`.",
        fix: "Raise `volume_size` and `disk_size` of the template or `disk_gib` in ami.toml. If the disk is larger than the file system, check that \
            cloud-init grows it.",
    },
    Entry {
        name: "disk-free",
        asserts: "The root file system has at least `free_min_gib` of free space.",
        fix: "Remove files in `90-cleanup.sh`, install less, or raise the size of the disk.",
    },
    Entry {
        name: "os",
        asserts: "`ID VERSION_ID` of `/etc/os-release` is in `os`.",
        fix: "Build on another base image, or add the operating system to `[instance]`.",
    },
    Entry {
        name: "arch",
        asserts: "The architecture of the running kernel, as `uname -m` prints it, is `arch`.",
        fix: "Build on a base image of this architecture, or change `arch` in `[instance]`.",
    },
    Entry {
        name: "boot-time",
        asserts: "The unit of sshd was active within `budget_seconds` after the kernel's start, in a container after its first process. Where the \
            processor is emulated, the limit is multiplied by `emulated_factor`.",
        fix: "The message names the slowest units. Order them after `ssh.service` (`70-boot.sh`) or disable them; `systemd-analyze critical-chain \
            ssh.service` shows what sshd waits for.",
    },
    Entry {
        name: "residue-host-keys",
        asserts: "The instance has SSH host keys, and none is a host key of the builder.",
        fix: "Remove `/etc/ssh/ssh_host_*` in `90-cleanup.sh`; cloud-init generates new keys.",
    },
    Entry {
        name: "residue-authorized-keys",
        asserts: "In the files that sshd reads, the login user has exactly the key that the instance was launched with, or none if it was launched \
            without one. Root has at most this key, and other accounts have none. sshd trusts no certificate authority, and takes keys from no \
            program except an unmodified one of a package.",
        fix: "Remove the key in `90-cleanup.sh`, and `TrustedUserCAKeys` and `AuthorizedKeysCommand` from the configuration of sshd.",
    },
    Entry {
        name: "residue-machine-id",
        asserts: "`/etc/machine-id` has 32 hexadecimal digits and differs from the builder's.",
        fix: "Truncate `/etc/machine-id` in `90-cleanup.sh`; systemd writes a new one at boot.",
    },
    Entry {
        name: "residue-histories",
        asserts: "The homes of root and the login user have no history file: `.*_history`, `.lesshst`, `.wget-hsts`.",
        fix: "Remove the file in `90-cleanup.sh`.",
    },
    Entry {
        name: "residue-credentials",
        asserts: "The homes of root and the login user have no file with credentials, such as `.netrc`, `.aws/credentials` or `.ssh/id_ed25519`, and no \
            file such as `.npmrc`, `.bashrc`, `.env`, `/etc/npmrc` or `/etc/environment` sets a token, password, secret or API key.",
        fix: "Remove the file or the setting at the end of the step that writes it. Pass secrets as described in [Keep secrets \
            out](../guides/secrets.md).",
    },
    Entry {
        name: "residue-build-ca",
        asserts: "`/etc/ssl/certs/ca-certificates.crt` has none of the certificates that the build host added for the build.",
        fix: "Remove the certificate and update the trust store in `90-cleanup.sh`.",
    },
    Entry {
        name: "residue-build-files",
        asserts: "`/var/tmp/agent-ami`, `/etc/dpkg/dpkg.cfg.d/agent-ami-build`, `/root/.npm`, `/root/.pm2` and `/tmp/script_*` do not exist.",
        fix: "Remove the file in `90-cleanup.sh`, and run no npm or pm2 command as root after it.",
    },
    Entry {
        name: "residue-ssm",
        asserts: "The Systems Manager agent has no documents or sessions of another instance in `/var/lib/amazon/ssm` or its snap's directory.",
        fix: "Remove the files in `90-cleanup.sh`.",
    },
    Entry {
        name: "residue-secrets",
        asserts: "No file of at most 1 MiB, and no npm lock file, in `/etc`, `/opt`, `/srv`, `/usr/local`, `/var/lib/cloud`, `/var/lib/amazon`, `/root`, \
            and the homes below `/home` and `/var/lib/agent-ami` contains text with the format of a private key, an access key or token of a known \
            service, or a password in a URL. Private keys that the instance generates at its first boot are allowed. Of npm and \
            Python packages, only the records of their origin are searched.",
        fix: "The message names the file and the kind of secret. Remove it in the step that writes it, and revoke the secret. See [Keep secrets \
            out](../guides/secrets.md).",
    },
    Entry {
        name: "residue-environment",
        asserts: "Logins of root and the login user, and services of systemd, have no proxy variable, no variable of a build (such as `PACKER_*` or \
            `PIP_*`) and none whose name contains `TOKEN`, `SECRET`, `PASSWORD` or `API_KEY`. apt has no proxy; Git has no proxy, \
            `sslCAInfo`, `extraHeader` or `insteadOf`; with `npm` in `[works]`, npm has no proxy and no `cafile`, and its default registry.",
        fix: "Remove the setting from `/etc/environment`, `/etc/apt/apt.conf.d`, the Git configuration or `.npmrc`, or set it only for the command that \
            needs it.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_and_longer_prefixes_take_precedence() {
        let name = |check| entry(check).map(|entry| entry.name);
        assert_eq!(name("fail2ban-counts"), Some("fail2ban-counts"));
        assert_eq!(name("fail2ban-bantime"), Some("fail2ban-*"));
        assert_eq!(name("tool-jq"), Some("tool-*"));
        assert_eq!(name("npm"), Some("npm"));
        assert_eq!(name("npmrc"), None);
    }

    #[test]
    fn names_are_unique_and_texts_are_complete() {
        for (i, entry) in CATALOG.iter().enumerate() {
            assert!(CATALOG[..i].iter().all(|other| other.name != entry.name), "{} twice", entry.name);
            for text in [entry.asserts, entry.fix] {
                assert!(text.ends_with('.') && !text.contains("  ") && !text.contains('\n'), "{}: {text}", entry.name);
            }
        }
    }
}
