//! Measures the boot of the instance, from systemd's timestamps, `systemd-analyze` and `cloud-init analyze`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smoke::boot::{Boot, Link, Unit};

use crate::exec;

/// Timeout of the measurement if no check has taken it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum length of the list of slowest units.
const SLOWEST: usize = 8;

/// systemd's units for sshd. Ubuntu 24.04 starts the service at the first connection, and the socket at boot.
const SSH: [&str; 2] = ["ssh.service", "ssh.socket"];

/// Measures the boot. Fails if systemd's timestamps are missing; other values are left out where they are missing.
pub(crate) fn boot(cloud_init: bool, deadline: Instant) -> Result<Boot, String> {
    let run = |line: &[&str]| exec::root(line, deadline);
    let stdout = |line: &[&str]| exec::root_stdout(line, deadline).unwrap_or_default();
    let show = exec::root_stdout(&["systemctl", "show"], deadline)?;
    let all = properties(&show);
    let mut boot = parts(&all)?;
    let stamps = ["systemctl", "show", "-p", "ActiveEnterTimestampMonotonic"];
    let finished = seconds(&all, "FinishTimestampMonotonic");
    for unit in SSH {
        let output = stdout(&[&stamps[..], &[unit]].concat());
        let at = seconds(&properties(&output), "ActiveEnterTimestampMonotonic");
        // A unit that was restarted after the boot has the time of the restart.
        let at = at.filter(|at| finished.is_none_or(|finished| *at <= finished));
        boot.ssh_active = boot.ssh_active.or(at);
    }
    // The monotonic clock of a container is its host's, so its boot is counted from its first process.
    if run(&["systemd-detect-virt", "--container"])?.ok() {
        without_kernel(&mut boot);
    }
    // The exit code is 1 where there is no virtualisation.
    boot.virtualization = run(&["systemd-detect-virt", "--vm"])?.stdout.trim().to_owned();
    boot.slowest = blame(&stdout(&["systemd-analyze", "--no-pager", "blame"]));
    boot.ssh_chain = chain(&stdout(&["systemd-analyze", "--no-pager", "critical-chain", SSH[0]]));
    if cloud_init {
        boot.cloud_init = stages(&stdout(&["cloud-init", "analyze", "show"]));
    }
    Ok(boot)
}

/// Counts the times from the first process instead of the kernel's start.
fn without_kernel(boot: &mut Boot) {
    let before = boot.kernel.take().unwrap_or_default() + boot.initrd.take().unwrap_or_default();
    boot.ssh_active = boot.ssh_active.map(|at| at - before);
}

/// The `NAME=VALUE` lines of `systemctl show`.
fn properties(text: &str) -> HashMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// A timestamp, which systemd prints in microseconds, in seconds; `None` for 0, which means "not reached".
fn seconds(properties: &HashMap<&str, &str>, name: &str) -> Option<f64> {
    let micros: u64 = properties.get(name)?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros).as_secs_f64())
}

/// The parts of the boot as systemd-analyze(1) calculates them. The timestamps of firmware and loader count backwards from the kernel's start.
fn parts(all: &HashMap<&str, &str>) -> Result<Boot, String> {
    let at = |name: &str| seconds(all, name);
    let userspace = at("UserspaceTimestampMonotonic").ok_or("systemd has no timestamp for the start of userspace")?;
    let finish = at("FinishTimestampMonotonic").ok_or("the boot has not finished; see `systemctl list-jobs`")?;
    let (firmware, loader) = (at("FirmwareTimestampMonotonic"), at("LoaderTimestampMonotonic"));
    let initrd = at("InitRDTimestampMonotonic");
    Ok(Boot {
        firmware: firmware.zip(loader).map(|(firmware, loader)| firmware - loader).filter(|s| *s > 0.0),
        loader,
        kernel: Some(initrd.unwrap_or(userspace)),
        initrd: initrd.map(|initrd| userspace - initrd),
        userspace: Some(finish - userspace),
        ..Boot::default()
    })
}

/// `systemd-analyze blame`: `1min 2.345s apt-daily.service`, longest first. Device units are left out: their time is spent waiting.
fn blame(text: &str) -> Vec<Unit> {
    let unit = |line: &str| {
        let (time, name) = line.trim().rsplit_once(' ')?;
        Some(Unit { name: name.to_owned(), seconds: duration(time)? })
    };
    text.lines().filter_map(unit).filter(|unit| !unit.name.ends_with(".device")).take(SLOWEST).collect()
}

/// `systemd-analyze critical-chain`: `└─network.target @11.204s +1.2s`, the given unit first.
fn chain(text: &str) -> Vec<Link> {
    let link = |line: &str| {
        let line = line.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let (name, times) = line.split_once(' ')?;
        let (at, took) = times.trim().strip_prefix('@').map_or((None, Some(times)), |rest| {
            let (at, took) = rest.split_once('+').map_or((rest, None), |(at, took)| (at, Some(took)));
            (Some(at), took)
        });
        let took = took.and_then(|took| duration(took.trim().trim_start_matches('+')));
        let at = at.and_then(|at| duration(at.trim()));
        if at.is_none() && took.is_none() || !name.contains('.') {
            return None;
        }
        Some(Link { name: name.to_owned(), at: at.unwrap_or_default(), seconds: took.unwrap_or_default() })
    };
    text.lines().filter_map(link).collect()
}

/// systemd's time spans, systemd.time(7): `1min 2.345s`, `345ms`.
fn duration(text: &str) -> Option<f64> {
    // Microseconds of each unit. `s` is last because it is a suffix of others.
    let units = [("min", 60e6), ("ms", 1e3), ("us", 1.0), ("h", 3600e6), ("s", 1e6)];
    let mut sum = None;
    for word in text.split_whitespace() {
        let (number, micros) = units.iter().find_map(|(unit, micros)| Some((word.strip_suffix(unit)?, micros)))?;
        sum = Some(sum.unwrap_or(0.0) + number.parse::<f64>().ok()? * micros / 1e6);
    }
    sum
}

/// `cloud-init analyze show`: the stages of the last boot record.
fn stages(text: &str) -> Vec<Unit> {
    let mut stages = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("-- Boot Record") {
            stages.clear();
        }
        let Some((name, time)) = line.strip_prefix("Finished stage: (").and_then(|rest| rest.split_once(')')) else {
            continue;
        };
        if let Some(seconds) = time.trim().strip_suffix(" seconds").and_then(|s| s.parse().ok()) {
            stages.push(Unit { name: name.to_owned(), seconds });
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, seconds: f64) -> Unit {
        Unit { name: name.to_owned(), seconds }
    }

    #[test]
    fn container_boot_is_counted_from_the_first_process() {
        let mut boot = Boot { kernel: Some(6836.0), userspace: Some(7.0), ssh_active: Some(6840.5), ..Boot::default() };
        without_kernel(&mut boot);
        assert_eq!((boot.kernel, boot.userspace, boot.ssh_active), (None, Some(7.0), Some(4.5)));
    }

    #[test]
    fn boot_parts_from_timestamps() {
        // With UEFI and systemd in the initial RAM disk, as systemd 252 prints it.
        let output = "Version=252\nFirmwareTimestampMonotonic=5500000\nLoaderTimestampMonotonic=1500000\nKernelTimestampMonotonic=0\n\
                    InitRDTimestampMonotonic=2000000\nUserspaceTimestampMonotonic=6000000\nFinishTimestampMonotonic=46000000\n";
        let found = parts(&properties(output)).unwrap();
        let expected = Boot {
            firmware: Some(4.0),
            loader: Some(1.5),
            kernel: Some(2.0),
            initrd: Some(4.0),
            userspace: Some(40.0),
            ..Boot::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn unfinished_boot_is_an_error() {
        let output = "InitRDTimestampMonotonic=0\nUserspaceTimestampMonotonic=6000000\nFinishTimestampMonotonic=0\n";
        assert!(parts(&properties(output)).unwrap_err().contains("has not finished"));
    }

    #[test]
    fn slowest_units_from_blame() {
        let output = "1min 2.803s dev-vda1.device\n    12.803s pm2-ubuntu.service\n      7.3s ufw.service\n     945ms ssh.service\n";
        let expected = [unit("pm2-ubuntu.service", 12.803), unit("ufw.service", 7.3), unit("ssh.service", 0.945)];
        assert_eq!(blame(output), expected);
        assert_eq!(blame(""), []);
    }

    #[test]
    fn critical_chain_without_its_legend() {
        let output = "The time when unit became active or started is printed after the \"@\" character.\n\
                    The time the unit took to start is printed after the \"+\" character.\n\n\
                    ssh.service +8.197s\n└─basic.target @1min 7.882s\n  └─cloud-init-network.service @59.810s +7.846s\n    └─-.mount @9.209s\n";
        let link = |name: &str, at, seconds| Link { name: name.to_owned(), at, seconds };
        let expected = [
            link("ssh.service", 0.0, 8.197),
            link("basic.target", 67.882, 0.0),
            link("cloud-init-network.service", 59.81, 7.846),
            link("-.mount", 9.209, 0.0),
        ];
        assert_eq!(chain(output), expected);
    }

    #[test]
    fn cloud_init_stages_of_the_last_boot() {
        let record = |number, seconds| {
            format!(
                "-- Boot Record {number} --\nThe total time elapsed since completing an event is printed after the \"@\" character.\n\n\
                 Starting stage: init-local\n|`->no cache found @00.00100s +00.00000s\n\
                 Finished stage: (init-local) {seconds} seconds\n\nTotal Time: {seconds} seconds\n\n"
            )
        };
        let output = format!("{}{}2 boot records analyzed\n", record("01", "03.20000"), record("02", "01.50000"));
        assert_eq!(stages(&output), [unit("init-local", 1.5)]);
    }

    #[test]
    fn time_spans() {
        assert_eq!(duration("1min 2.5s"), Some(62.5));
        assert_eq!(duration("345ms"), Some(0.345));
        assert_eq!(duration("1h 1min"), Some(3660.0));
        assert_eq!(duration("soon"), None);
        assert_eq!(duration(""), None);
    }
}
