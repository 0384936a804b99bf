//! How long the boot took, against a budget: users wait for it at every launch.

use smoke::boot::Boot;
use smoke::spec;

use super::{Check, Failure, Host, Verdict};

pub(super) fn all(boot: Option<spec::Boot>) -> Vec<Check> {
    let check = |budget| Check::new("boot-time", move |host| time(host, budget));
    boot.map(check).into_iter().collect()
}

/// sshd accepted connections within the budget. The instance knows nothing of what came before its kernel.
fn time(host: &Host, budget: spec::Boot) -> Verdict {
    host.booted()?;
    verdict(&host.boot(host.deadline)?, budget)
}

fn verdict(boot: &Boot, budget: spec::Boot) -> Verdict {
    // Where sshd's own time is not known, that of everything is a bound to it.
    let everything = || Some([boot.kernel, boot.initrd, boot.userspace].iter().flatten().sum());
    let Some(took) = boot.ssh_active.or_else(everything) else { return Err("the boot was not measured".into()) };
    let (factor, where_to) = if boot.emulated() { (budget.emulated_factor, " (emulated)") } else { (1.0, "") };
    let most = budget.budget_seconds * factor;
    let slowest = boot.slowest_text(3);
    let from = if boot.kernel.is_some() { "the kernel's start" } else { "the first process" };
    let message = format!("{took:.1} s from {from} to sshd, budget {most:.0} s{where_to}; slowest units: {slowest}");
    if took <= most { Ok(message) } else { Err(Failure::from(message)) }
}

#[cfg(test)]
mod tests {
    use smoke::boot::Unit;

    use super::*;

    #[test]
    fn the_budget_is_scaled_where_the_processor_is_emulated() {
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
        assert!(verdict(&boot, budget).is_ok());
        boot.virtualization = "amazon".to_owned();
        assert_eq!(
            verdict(&boot, budget).unwrap_err().message,
            "32.4 s from the kernel's start to sshd, budget 10 s; slowest units: a.service 9.0 s, b.service 5.0 s, c.service 2.0 s"
        );
        // sshd was started again since: the whole boot counts.
        boot = Boot { ssh_active: None, kernel: Some(2.0), userspace: Some(7.0), ..boot };
        assert!(verdict(&boot, budget).unwrap().starts_with("9.0 s"));
    }
}
