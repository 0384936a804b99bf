//! The checks. Each tests the running system where it can, rather than the files that configure it.

mod accounts;
mod boot;
mod clock;
mod dispatch;
mod documents;
mod environment;
mod fail2ban;
mod isolate;
mod jobs;
mod pm2;
mod privileged;
mod residue;
mod search_path;
mod secrets;
mod sockets;
mod ssm_agent;
mod sshd;
mod system;
mod tools;
mod ufw;
mod updates;
mod works;

use smoke::spec::Spec;

use crate::check::Check;

/// The checks of a spec, in the order of its sections.
pub(crate) fn all(spec: &Spec) -> Vec<Check> {
    let mut checks = tools::all(spec);
    checks.extend(works::all(spec.works));
    checks.extend(pm2::all(spec.pm2.as_ref()));
    checks.extend(ufw::all(spec.ufw.as_ref()));
    checks.extend(fail2ban::all(spec.fail2ban.as_ref()));
    checks.extend(sshd::all(spec.sshd.as_ref()));
    checks.extend(updates::all(spec.unattended_upgrades.as_ref()));
    checks.extend(dispatch::all(spec.dispatch.as_ref()));
    checks.extend(isolate::all(spec.dispatch.as_ref()));
    checks.extend(ssm_agent::all(spec.ssm_agent));
    checks.extend(accounts::all(spec.accounts.as_ref()));
    checks.extend(privileged::all(spec.privileged.as_ref()));
    checks.extend(jobs::all(spec.jobs.as_ref()));
    checks.extend(search_path::all(spec.accounts.is_some()));
    checks.extend(sockets::all(spec.network.as_ref()));
    checks.extend(clock::all(spec.network.as_ref()));
    checks.extend(system::all(spec));
    checks.extend(boot::all(spec.boot));
    checks.extend(residue::all(spec.residue));
    checks.extend(secrets::all(spec.residue.check));
    checks.extend(environment::all(spec.residue.check));
    checks
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use smoke::catalog::{CATALOG, entry};

    use super::*;

    fn names(spec: &str) -> BTreeSet<String> {
        let spec = smoke::spec::parse(spec).unwrap();
        all(&spec).into_iter().map(|check| check.name).collect()
    }

    fn standard() -> BTreeSet<String> {
        names(include_str!("../specs/locus-agent.toml"))
    }

    fn default_ec2() -> BTreeSet<String> {
        names(include_str!("../specs/default-ec2.toml"))
    }

    /// The checks of files with breaks. No check has two breaks.
    fn broken(files: &[&str]) -> BTreeSet<String> {
        let tables = files.iter().map(|text| text.parse::<toml::Table>().unwrap()).collect::<Vec<_>>();
        let breaks: Vec<&toml::Value> = tables.iter().flat_map(|table| table["break"].as_array().unwrap()).collect();
        let broken: BTreeSet<String> = breaks.iter().map(|b| b["check"].as_str().unwrap().to_owned()).collect();
        assert_eq!(breaks.len(), broken.len(), "a check with two breaks");
        broken
    }

    /// xtask/tests/vm.rs runs the breaks. Without one, a check is never seen to fail.
    #[test]
    fn each_check_has_exactly_one_break() {
        let files = [
            include_str!("../tests/breaks.toml"),
            include_str!("../tests/breaks-hygiene.toml"),
            include_str!("../tests/breaks-default-ec2.toml"),
        ];
        assert_eq!(broken(&files[..2]), standard());
        assert_eq!(broken(&files), default_ec2());
    }

    #[test]
    fn catalog_describes_all_checks_and_no_others() {
        let checks = standard();
        let missing: Vec<&String> = checks.iter().filter(|check| entry(check).is_none()).collect();
        assert!(missing.is_empty(), "not in the catalog: {missing:?}");
        let described: BTreeSet<&str> =
            checks.iter().filter_map(|check| entry(check)).map(|entry| entry.name).collect();
        let all: BTreeSet<&str> = CATALOG.iter().map(|entry| entry.name).collect();
        assert_eq!(described, all);
    }
}
