//! The instance under test: its login user, the fixtures, and values that several checks use and that are determined once.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smoke::boot::Boot;
use smoke::spec::Spec;

use crate::exec::{self, Output};
use crate::packages::Packages;
use crate::proc_net::{self, Socket};
use crate::{measure, network};

/// The login user of the spec, from /etc/passwd.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: String,
}

type Once<T> = OnceLock<Result<T, String>>;

pub(crate) struct Instance {
    pub spec: Spec,
    pub user: User,
    fixtures: Option<PathBuf>,
    /// Results of [`Instance::once`] by key.
    results: Mutex<HashMap<String, Arc<Once<String>>>>,
    /// Difference between the clock and the time given by `--now`.
    pub clock_offset: Option<Duration>,
    sockets: Result<Vec<Socket>, String>,
    databases: HashMap<&'static str, Result<String, String>>,
    /// Content, before any check ran, of files that one check changes temporarily and another check reads.
    initial_files: HashMap<PathBuf, String>,
    scratch_count: AtomicU32,
    second_host: Once<network::Link>,
    boot: Once<Boot>,
    packages: Once<Packages>,
}

impl Instance {
    /// Finds the login user, removes what an earlier run left, and records state that checks change while they run.
    pub(crate) fn new(spec: Spec, fixtures: Option<PathBuf>, now: Option<u64>) -> Result<Self, String> {
        // Measured first, because the steps below take seconds.
        let clock_offset = now.and_then(offset);
        let name = &spec.instance.user;
        let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let user = find_user(&passwd, name).ok_or_else(|| format!("no user `{name}` on this instance"))?;
        let keys = [Path::new("/root"), &user.home].map(|home| home.join(".ssh/authorized_keys"));
        let initial_files =
            keys.into_iter().filter_map(|f| fs::read_to_string(&f).ok().map(|text| (f, text))).collect();
        // A run that was killed did not clean up.
        clean_up();
        // Some checks open sockets and create a user.
        let sockets = proc_net::listening();
        let databases = DATABASES.iter().map(|name| (*name, read_database(name))).collect();
        Ok(Self {
            spec,
            user,
            fixtures,
            results: Mutex::default(),
            clock_offset,
            sockets,
            databases,
            initial_files,
            scratch_count: AtomicU32::new(0),
            second_host: OnceLock::new(),
            boot: OnceLock::new(),
            packages: OnceLock::new(),
        })
    }

    /// The content of a fixture; `None` if there are no fixtures or not this one.
    pub(crate) fn fixture(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.fixture_path(name)?).ok()
    }

    /// The path of a fixture, if it exists.
    pub(crate) fn fixture_path(&self, name: &str) -> Option<PathBuf> {
        self.fixtures.as_ref().map(|dir| dir.join(name)).filter(|p| p.exists())
    }

    /// The content of an `authorized_keys` file before any check ran.
    pub(crate) fn initial_content(&self, path: &Path) -> Option<&str> {
        self.initial_files.get(path).map(String::as_str)
    }

    /// The entries of a getent(1) database before any check ran. It includes accounts that do not come from a file, as PAM and sshd see them.
    pub(crate) fn database(&self, name: &str) -> Result<String, String> {
        self.databases.get(name).cloned().unwrap_or_else(|| Err(format!("the database {name} was not read")))
    }

    /// The files of all packages; read by the first check that needs them.
    pub(crate) fn packages(&self, deadline: Instant) -> Result<&Packages, String> {
        self.packages.get_or_init(|| Packages::read(deadline)).as_ref().map_err(Clone::clone)
    }

    /// The sockets that listened before any check ran.
    pub(crate) fn sockets(&self) -> Result<&[Socket], String> {
        self.sockets.as_deref().map_err(Clone::clone)
    }

    /// The result of `compute` for the key: the first caller runs it, callers at the same time wait for it.
    pub(crate) fn once(&self, key: &str, compute: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
        let result = match self.results.lock() {
            Ok(mut results) => Arc::clone(results.entry(key.to_owned()).or_default()),
            Err(_) => return compute(),
        };
        result.get_or_init(compute).clone()
    }

    /// The boot's measurements, taken at the first call; an error if the spec has `systemd = false`.
    pub(crate) fn boot(&self, deadline: Instant) -> Result<Boot, String> {
        if !self.spec.instance.systemd {
            return Err("boot not measured: the spec has `systemd = false`".to_owned());
        }
        self.boot.get_or_init(|| measure::boot(self.spec.instance.cloud_init, deadline)).clone()
    }

    /// The addresses of the second host (see [`network`]), created at the first call.
    pub(crate) fn second_host(&self, deadline: Instant) -> Result<network::Link, String> {
        self.second_host.get_or_init(|| network::create(deadline)).clone()
    }

    /// Runs a program as the login user, with the environment of a login, in a directory or at home.
    pub(crate) fn run_as_user(&self, line: &[&str], dir: Option<&Path>, deadline: Instant) -> Result<Output, String> {
        let user = &self.user;
        let path = self.login_path(deadline)?;
        let mut command = exec::program("setpriv");
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .args(["--init-groups", "--"])
            .args(line)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &user.home)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .env("SHELL", &user.shell)
            .env("LANG", "C.UTF-8")
            .current_dir(dir.unwrap_or(&user.home));
        exec::run(command, "", deadline)
    }

    /// PATH in a login shell of the user.
    pub(crate) fn login_path(&self, deadline: Instant) -> Result<String, String> {
        self.once("login-path", || {
            let line = ["runuser", "-l", &self.user.name, "-c", "printf '\\n%s' \"$PATH\""];
            let output = exec::root(&line, deadline)?;
            let path = output.stdout.lines().last().unwrap_or_default().trim();
            if output.ok() && !path.is_empty() {
                return Ok(path.to_owned());
            }
            Err(format!("a login shell of {} {}", self.user.name, output.summary()))
        })
    }

    /// A new directory that the login user owns; dropping it removes it.
    pub(crate) fn scratch(&self) -> Result<Scratch, String> {
        let number = self.scratch_count.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{SCRATCH}-{}-{number}", std::process::id()));
        let created = fs::create_dir(&path).and_then(|()| chown(&path, Some(self.user.uid), Some(self.user.gid)));
        created.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Scratch { path, owner: (self.user.uid, self.user.gid) })
    }

    /// SHA-256 fingerprints of the SSH host keys, sorted.
    pub(crate) fn host_keys(&self) -> Vec<String> {
        let keys = self.once("host-keys", || {
            let files = fs::read_dir("/etc/ssh").map_err(|e| e.to_string())?.flatten().map(|e| e.path());
            let public = files.filter(|p| {
                let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.starts_with("ssh_host_") && name.ends_with("_key.pub")
            });
            let mut keys = Vec::new();
            for file in public {
                let deadline = Instant::now() + Duration::from_secs(60);
                let output = exec::root(&["ssh-keygen", "-l", "-f", &file.to_string_lossy()], deadline)?;
                keys.extend(output.stdout.split_whitespace().nth(1).map(str::to_owned));
            }
            keys.sort();
            Ok(keys.join("\n"))
        });
        keys.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// `ID VERSION_ID` of /etc/os-release.
    pub(crate) fn os(&self) -> String {
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or("?").trim_matches('"').to_owned()
        };
        format!("{} {}", field("ID"), field("VERSION_ID"))
    }

    /// Creates a systemd unit in place of one that this machine does not have. [`clean_up`] removes it.
    pub(crate) fn create_placeholder(&self, unit: &str, text: &str, deadline: Instant) -> Result<(), String> {
        let file = Path::new(RUNTIME_UNITS).join(unit);
        fs::create_dir_all(RUNTIME_UNITS)
            .and_then(|()| fs::write(&file, format!("{PLACEHOLDER}\n{text}")))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        exec::root_stdout(&["systemctl", "daemon-reload"], deadline).map(|_| ())
    }
}

/// Removes what checks created and an interrupted check did not remove: the second host, placeholder units, scratch directories.
pub(crate) fn clean_up() {
    network::remove();
    remove_placeholders();
    let prefix = Path::new(SCRATCH);
    let Some((parent, name)) = prefix.parent().zip(prefix.file_name()) else { return };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{}-", name.to_string_lossy())) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn remove_placeholders() {
    let deadline = Instant::now() + Duration::from_secs(120);
    for file in fs::read_dir(RUNTIME_UNITS).into_iter().flatten().flatten().map(|e| e.path()) {
        if fs::read_to_string(&file).is_ok_and(|text| text.starts_with(PLACEHOLDER)) {
            let unit = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let _ = exec::root(&["systemctl", "stop", &unit], deadline);
            let _ = fs::remove_file(&file);
            let _ = exec::root(&["systemctl", "daemon-reload"], deadline);
            let _ = exec::root(&["systemctl", "reset-failed", &unit], deadline);
        }
    }
}

/// The getent(1) databases that checks read.
const DATABASES: [&str; 4] = ["passwd", "shadow", "group", "gshadow"];

fn read_database(name: &str) -> Result<String, String> {
    exec::root_stdout(&["getent", name], Instant::now() + Duration::from_secs(60))
}

/// Units that last until the next boot (systemd.unit(5)).
const RUNTIME_UNITS: &str = "/run/systemd/system";
/// First line of a placeholder unit.
const PLACEHOLDER: &str = "# agent-ami: a placeholder for the duration of a check";

/// Prefix of scratch directories. They are on the disk because /tmp may be a small tmpfs.
const SCRATCH: &str = "/var/tmp/agent-ami-scratch";

/// See [`Instance::scratch`].
pub(crate) struct Scratch {
    pub path: PathBuf,
    owner: (u32, u32),
}

impl Scratch {
    /// The path of a file in it.
    pub(crate) fn join(&self, name: &str) -> String {
        self.path.join(name).to_string_lossy().into_owned()
    }

    /// Writes a file that the login user owns.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String, String> {
        fs::write(self.path.join(name), text).map_err(|e| format!("{}: {e}", self.join(name)))?;
        self.own(name)
    }

    /// Creates a directory that the login user owns.
    pub(crate) fn directory(&self, name: &str) -> Result<String, String> {
        fs::create_dir(self.path.join(name)).map_err(|e| format!("{}: {e}", self.join(name)))?;
        self.own(name)
    }

    fn own(&self, name: &str) -> Result<String, String> {
        let owned = chown(self.path.join(name), Some(self.owner.0), Some(self.owner.1));
        owned.map_err(|e| format!("{}: {e}", self.join(name)))?;
        Ok(self.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Difference between the clock and `now`, which is in seconds since 1970.
fn offset(now: u64) -> Option<Duration> {
    let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(here.abs_diff(Duration::from_secs(now)))
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    let fields: Vec<&str> = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.into(),
        shell: shell.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_is_absolute() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for then in [now - 100, now + 100] {
            let off = offset(then).unwrap().as_secs();
            assert!((98..=102).contains(&off), "{off}");
        }
    }

    #[test]
    fn user_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1001:Ubuntu,,,:/home/ubuntu:/bin/bash\n";
        let user = find_user(passwd, "ubuntu").unwrap();
        assert_eq!((user.uid, user.gid, user.home), (1000, 1001, PathBuf::from("/home/ubuntu")));
        assert!(find_user(passwd, "ubunt").is_none());
    }
}
