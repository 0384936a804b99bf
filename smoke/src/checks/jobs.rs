//! Files that start programs: jobs of cron and at, units of systemd, scripts of cloud-init. Each belongs to a package, unmodified, or is
//! listed in the spec.

use std::fs;
use std::path::{Path, PathBuf};

use smoke::spec::Jobs;

use crate::check::{Check, CheckResult, Host};

/// Where cron(8), anacron(8), at(1), rc-local, cloud-init, login shells and systemd's user managers find what they run.
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

/// Files of cron and at that are not jobs.
const IGNORED: [&str; 2] = [".placeholder", ".SEQ"];

pub(super) fn all(jobs: Option<&Jobs>) -> Vec<Check> {
    let Some(jobs) = jobs.cloned() else { return vec![] };
    vec![Check::new("scheduled-jobs", move |host| check(host, &jobs))]
}

fn check(host: &Host, expected: &Jobs) -> CheckResult {
    let mut files = Vec::new();
    for place in places(host)? {
        collect(&place, &mut files);
    }
    files.sort();
    files.dedup();
    let mut unlisted = host.packages(host.deadline)?.unpackaged_or_modified(&files, host.deadline)?;
    unlisted.retain(|f| !expected.files.iter().any(|pattern| matches(pattern, f)));
    if unlisted.is_empty() {
        return Ok(format!("{} files, all of packages or listed in the spec", files.len()));
    }
    Err(format!("belong to no package or are modified, and are not listed in the spec: {}", unlisted.join(", ")).into())
}

/// [`PLACES`], the directories of systemd's units except those in /run, and the directory of user units in each home.
fn places(host: &Host) -> Result<Vec<PathBuf>, String> {
    let mut places: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    let units = host.stdout(&["systemctl", "show", "--property=UnitPath", "--value"])?;
    places.extend(units.split_whitespace().filter(|p| !p.starts_with("/run/")).map(PathBuf::from));
    let passwd = host.database("passwd")?;
    let homes = passwd.lines().filter_map(|l| l.split(':').nth(5)).filter(|home| home.len() > 1);
    places.extend(homes.map(|home| Path::new(home).join(".config/systemd/user")));
    Ok(places)
}

/// True if the path matches the pattern, whose one `*` matches a non-empty part of a file name.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == path };
    let rest = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    rest.is_some_and(|part| !part.is_empty() && !part.contains('/'))
}

/// Adds the files below a path. Symbolic links are added, not followed.
fn collect(path: &Path, files: &mut Vec<String>) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    if !about.is_dir() {
        let ignored = path.file_name().is_some_and(|name| IGNORED.iter().any(|ignored| name == *ignored));
        if !ignored {
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
    fn star_matches_part_of_a_file_name() {
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
