//! What runs by itself: cron's and at's jobs, units of systemd, scripts of cloud-init. All are the packages' or the spec's.

use std::fs;
use std::path::{Path, PathBuf};

use smoke::spec::Jobs;

use super::{Check, Host, Verdict};

/// Where cron(8), anacron(8), at(1), rc-local and cloud-init find what they run. Below a user's home, systemd finds his units.
const PLACES: [&str; 17] = [
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/etc/cron.yearly",
    "/var/spool/cron",
    "/etc/rc.local",
    "/etc/init.d",
    "/etc/systemd/user",
    "/usr/local/lib/systemd",
    "/usr/local/share/systemd",
    "/var/lib/cloud/scripts",
    "/etc/update-motd.d",
    "/etc/profile.d",
];

/// What cron and at themselves keep there.
const OWN: [&str; 2] = [".placeholder", ".SEQ"];

pub(super) fn all(jobs: Option<&Jobs>) -> Vec<Check> {
    let Some(jobs) = jobs.cloned() else { return vec![] };
    vec![Check::new("scheduled-jobs", move |host| check(host, &jobs))]
}

fn check(host: &Host, wanted: &Jobs) -> Verdict {
    let mut files = Vec::new();
    for place in places(host)? {
        collect(&place, &mut files);
    }
    files.sort();
    files.dedup();
    let mut foreign = host.packages(host.deadline)?.foreign(host, &files)?;
    foreign.retain(|f| !wanted.files.iter().any(|pattern| matches(pattern, f)));
    if foreign.is_empty() {
        return Ok(format!("{} files, all the packages' or the spec's", files.len()));
    }
    Err(format!("run by themselves and are no package's as they are: {}", foreign.join(", ")).into())
}

/// The places of the programs above, those of systemd's units that stay over a restart, and those of users.
fn places(host: &Host) -> Result<Vec<PathBuf>, String> {
    let mut places: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    let units = host.ask(&["systemctl", "show", "--property=UnitPath", "--value"])?;
    places.extend(units.split_whitespace().filter(|p| !p.starts_with("/run/")).map(PathBuf::from));
    let passwd = host.database("passwd")?;
    let homes = passwd.lines().filter_map(|l| l.split(':').nth(5)).filter(|home| home.len() > 1);
    places.extend(homes.map(|home| Path::new(home).join(".config/systemd/user")));
    Ok(places)
}

/// True if the path is the pattern's, in which one `*` stands for a part of a name.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == path };
    let rest = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    rest.is_some_and(|part| !part.is_empty() && !part.contains('/'))
}

/// The files below a path. A link is one: what it leads to runs.
fn collect(path: &Path, files: &mut Vec<String>) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    if !about.is_dir() {
        let own = path.file_name().is_some_and(|name| OWN.iter().any(|own| name == *own));
        if !own {
            files.push(path.to_string_lossy().into_owned());
        }
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        collect(&entry.path(), files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_a_part_of_one_name() {
        let pattern = "/etc/systemd/system/*.d/50-agent-ami-boot.conf";
        assert!(matches(pattern, "/etc/systemd/system/fail2ban.service.d/50-agent-ami-boot.conf"));
        for path in
            ["/etc/systemd/system/.d/50-agent-ami-boot.conf", "/etc/systemd/system/a/b.d/50-agent-ami-boot.conf"]
        {
            assert!(!matches(pattern, path), "{path}");
        }
        assert!(matches("/etc/cron.d/x", "/etc/cron.d/x") && !matches("/etc/cron.d/x", "/etc/cron.d/xy"));
    }
}
