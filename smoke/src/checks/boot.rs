//! Boot time compared with a limit: users wait for the boot at every launch.

use smoke::boot::Boot;
use smoke::spec;

use crate::check::{Check, CheckResult, Failure, Host};

pub(super) fn all(boot: Option<spec::Boot>) -> Vec<Check> {
    let check = |budget| Check::new("boot-time", move |host| time(host, budget));
    boot.map(check).into_iter().collect()
}

/// sshd was active within the limit. Time before the kernel's start cannot be measured on the instance.
fn time(host: &Host, budget: spec::Boot) -> CheckResult {
    host.booted()?;
    compare(&host.boot(host.deadline)?, budget)
}

fn compare(boot: &Boot, budget: spec::Boot) -> CheckResult {
    // Without a time for sshd, that of the whole boot is an upper bound.
    let whole_boot = || Some([boot.kernel, boot.initrd, boot.userspace].iter().flatten().sum());
    let Some(took) = boot.ssh_active.or_else(whole_boot) else { return Err("the boot was not measured".into()) };
    let (factor, note) = if boot.emulated() { (budget.emulated_factor, " (emulated)") } else { (1.0, "") };
    let limit = budget.budget_seconds * factor;
    let slowest = boot.slowest_text(3);
    let from = if boot.kernel.is_some() { "the kernel's start" } else { "the first process" };
    let message = format!("{took:.1} s from {from} to sshd, limit {limit:.0} s{note}; slowest units: {slowest}");
    if took <= limit { Ok(message) } else { Err(Failure::from(message)) }
}

#[cfg(test)]
mod tests {
    use smoke::boot::Unit;

    use super::*;

    #[test]
    fn limit_is_multiplied_on_an_emulated_processor() {
        let budget = spec::Boot { budget_seconds: 10.0, emulated_factor: 4.0 };
        let unit = |name: &str, seconds| Unit { name: name.to_owned(), seconds };
        let slowest =
            vec![unit("a.service", 9.0), unit("b.service", 5.0), unit("c.service", 2.0), unit("d.service", 1.0)];
        let mut boot = Boot {
            ssh_active: Some(32.4),
            slowest,
            virtualization: "qemu".to_owned(),
            kernel: Some(2.0),
            ..Boot::default()
        };
        assert!(compare(&boot, budget).is_ok());
        boot.virtualization = "amazon".to_owned();
        assert_eq!(
            compare(&boot, budget).unwrap_err().message,
            "32.4 s from the kernel's start to sshd, limit 10 s; slowest units: a.service 9.0 s, b.service 5.0 s, c.service 2.0 s"
        );
        // sshd was restarted after the boot: the time of the whole boot is used.
        boot = Boot { ssh_active: None, kernel: Some(2.0), userspace: Some(7.0), ..boot };
        assert!(compare(&boot, budget).unwrap().starts_with("9.0 s"));
    }
}
