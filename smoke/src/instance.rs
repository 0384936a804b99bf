//! The instance as the checks see it: its user, what the fixtures tell, and facts that several checks need and that are
//! found out once.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smoke::boot::Boot;
use smoke::spec::Spec;

use crate::checks::sockets::{self, Socket};
use crate::exec::{self, Output};
use crate::files::Packages;
use crate::{measure, network};

/// The login user of the spec.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: String,
}

type Fact = Arc<OnceLock<Result<String, String>>>;

/// The instance.
pub(crate) struct Instance {
    pub spec: Spec,
    pub user: User,
    fixtures: Option<PathBuf>,
    facts: Mutex<HashMap<String, Fact>>,
    /// How far the clock is off, if somebody said what time it is.
    pub clock_offset: Option<Duration>,
    sockets: Result<Vec<Socket>, String>,
    databases: HashMap<&'static str, Result<String, String>>,
    /// Files that a check changes for a moment and another reads, as they were at the start.
    at_start: HashMap<PathBuf, String>,
    scratch: AtomicU32,
    boot: OnceLock<Result<Boot, String>>,
    packages: OnceLock<Result<Packages, String>>,
}

impl Instance {
    /// Looks who the user is and takes note of what checks will change.
    pub(crate) fn new(spec: Spec, fixtures: Option<PathBuf>, now: Option<u64>) -> Result<Self, String> {
        let clock_offset = now.and_then(offset);
        let name = &spec.instance.user;
        let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let user = find_user(&passwd, name).ok_or_else(|| format!("there is no user `{name}` on this instance"))?;
        let keys = [Path::new("/root"), &user.home].map(|home| home.join(".ssh/authorized_keys"));
        let at_start = keys.into_iter().filter_map(|f| fs::read_to_string(&f).ok().map(|text| (f, text))).collect();
        let facts = Mutex::default();
        let (scratch, boot, packages) = (AtomicU32::new(0), OnceLock::new(), OnceLock::new());
        let (sockets, databases) = (Ok(Vec::new()), HashMap::new());
        let mut instance =
            Self { spec, user, fixtures, facts, clock_offset, sockets, databases, at_start, scratch, boot, packages };
        // An earlier run that was killed may have left these.
        instance.tidy();
        // Checks make sockets and an account of their own.
        instance.sockets = sockets::listening();
        instance.databases = DATABASES.iter().map(|name| (*name, instance.entries(name))).collect();
        Ok(instance)
    }

    /// A fixture's content, if there are fixtures and it is one of them.
    pub(crate) fn fixture(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.fixture_path(name)?).ok()
    }

    /// Where a fixture lies, if it is there.
    pub(crate) fn fixture_path(&self, name: &str) -> Option<PathBuf> {
        self.fixtures.as_ref().map(|dir| dir.join(name)).filter(|p| p.exists())
    }

    /// A file as it was before any check ran.
    pub(crate) fn at_start(&self, path: &Path) -> Option<&str> {
        self.at_start.get(path).map(String::as_str)
    }

    /// A database of getent(1) as it was before any check ran: what PAM and sshd ask, also where it does not come from a file.
    pub(crate) fn database(&self, name: &str) -> Result<String, String> {
        self.databases.get(name).cloned().unwrap_or_else(|| Err(format!("the database {name} was not read")))
    }

    fn entries(&self, name: &str) -> Result<String, String> {
        let output = self.root(&["getent", name], Instant::now() + Duration::from_secs(60))?;
        if output.ok() { Ok(output.stdout) } else { Err(format!("`getent {name}` {}", output.gist())) }
    }

    /// The files of all packages; read by the first check that needs them.
    pub(crate) fn packages(&self, deadline: Instant) -> Result<&Packages, String> {
        let read = || {
            let output = self.root(&["dpkg-query", "-W", "-f", "${Conffiles}\\n"], deadline)?;
            if output.ok() { Packages::read(&output.stdout) } else { Err(format!("`dpkg-query` {}", output.gist())) }
        };
        self.packages.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// The sockets that listened before any check ran.
    pub(crate) fn sockets(&self) -> Result<&[Socket], String> {
        self.sockets.as_deref().map_err(Clone::clone)
    }

    /// A fact that is found out by whoever asks first; the others wait for it.
    pub(crate) fn once(&self, key: &str, find: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
        let fact = match self.facts.lock() {
            Ok(mut facts) => Arc::clone(facts.entry(key.to_owned()).or_default()),
            Err(_) => return find(),
        };
        fact.get_or_init(find).clone()
    }

    /// How long the boot took; measured by whoever asks first, if there is a systemd that was asked to start things.
    pub(crate) fn boot(&self, deadline: Instant) -> Result<Boot, String> {
        if !self.spec.instance.systemd {
            return Err("the spec does not ask systemd".to_owned());
        }
        self.boot.get_or_init(|| measure::boot(self, deadline)).clone()
    }

    /// Runs a program as root.
    pub(crate) fn root(&self, line: &[&str], deadline: Instant) -> Result<Output, String> {
        let (program, args) = line.split_first().ok_or("no program")?;
        let mut command = exec::program(program);
        command.args(args).env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        exec::run(command, "", deadline)
    }

    /// Runs a program as the login user, with the environment of a login, in a folder or at home.
    pub(crate) fn user(&self, line: &[&str], dir: Option<&Path>, deadline: Instant) -> Result<Output, String> {
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

    /// PATH as a login shell of the user has it.
    pub(crate) fn login_path(&self, deadline: Instant) -> Result<String, String> {
        self.once("login-path", || {
            let output = self.root(&["runuser", "-l", &self.user.name, "-c", "printf '\\n%s' \"$PATH\""], deadline)?;
            let path = output.stdout.lines().last().unwrap_or_default().trim();
            if output.ok() && !path.is_empty() {
                return Ok(path.to_owned());
            }
            Err(format!("a login shell of {} {}", self.user.name, output.gist()))
        })
    }

    /// An empty folder that belongs to the login user and goes when it is dropped.
    pub(crate) fn scratch(&self) -> Result<Scratch, String> {
        let number = self.scratch.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{SCRATCH}-{}-{number}", std::process::id()));
        let made = fs::create_dir(&path).and_then(|()| chown(&path, Some(self.user.uid), Some(self.user.gid)));
        made.map_err(|e| format!("{}: {e}", path.display()))?;
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
                let output = self.root(&["ssh-keygen", "-l", "-f", &file.to_string_lossy()], deadline)?;
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

    /// A unit that systemd knows until the end of the run, at most until the next boot.
    pub(crate) fn stand_in(&self, unit: &str, text: &str, deadline: Instant) -> Result<(), String> {
        let file = Path::new(UNITS).join(unit);
        fs::create_dir_all(UNITS)
            .and_then(|()| fs::write(&file, format!("{STAND_IN}\n{text}")))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        let output = self.root(&["systemctl", "daemon-reload"], deadline)?;
        if output.ok() { Ok(()) } else { Err(format!("`systemctl daemon-reload` {}", output.gist())) }
    }

    /// Takes away the stand-ins.
    fn dismiss(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        for file in fs::read_dir(UNITS).into_iter().flatten().flatten().map(|e| e.path()) {
            if fs::read_to_string(&file).is_ok_and(|text| text.starts_with(STAND_IN)) {
                let unit = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let _ = self.root(&["systemctl", "stop", &unit], deadline);
                let _ = fs::remove_file(&file);
                let _ = self.root(&["systemctl", "daemon-reload"], deadline);
                let _ = self.root(&["systemctl", "reset-failed", &unit], deadline);
            }
        }
    }

    /// Takes away what checks made: network namespace, scratch folders.
    pub(crate) fn tidy(&self) {
        network::remove(self);
        self.dismiss();
        let prefix = Path::new(SCRATCH);
        let Some((parent, name)) = prefix.parent().zip(prefix.file_name()) else { return };
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{}-", name.to_string_lossy())) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Who is known here, and how they get in.
const DATABASES: [&str; 4] = ["passwd", "shadow", "group", "gshadow"];

/// Units for this boot (systemd.unit(5)), and how ours begin.
const UNITS: &str = "/run/systemd/system";
const STAND_IN: &str = "# agent-ami: a stand-in, for the time of a check";

/// Scratch folders begin with this. On the disk: /tmp may be small.
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

    /// Writes a file that belongs to the login user.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String, String> {
        fs::write(self.path.join(name), text).map_err(|e| format!("{}: {e}", self.join(name)))?;
        self.own(name)
    }

    /// Makes a folder that belongs to the login user.
    pub(crate) fn folder(&self, name: &str) -> Result<String, String> {
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

/// How far the clock is away from the time that somebody says it is.
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
    fn the_clock_is_off_in_both_directions() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for then in [now - 100, now + 100] {
            let off = offset(then).unwrap().as_secs();
            assert!((98..=102).contains(&off), "{off}");
        }
    }

    #[test]
    fn users_are_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1001:Ubuntu,,,:/home/ubuntu:/bin/bash\n";
        let user = find_user(passwd, "ubuntu").unwrap();
        assert_eq!((user.uid, user.gid, user.home), (1000, 1001, PathBuf::from("/home/ubuntu")));
        assert!(find_user(passwd, "ubunt").is_none());
    }
}
