//! Settings of the build that an instance must not have: proxies, tokens, certificate bundles.

use crate::check::{Check, CheckResult, Host};

/// Prefixes of variables that a build sets.
const BUILD_PREFIXES: [&str; 12] = [
    "PACKER_",
    "AGENT_AMI_",
    "LOCUS_",
    "PKR_VAR_",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_",
    "NPM_CONFIG_",
    "DEBIAN_FRONTEND",
    "GIT_SSL_",
];
/// Parts of names of variables with secrets.
const SECRET: [&str; 4] = ["TOKEN", "SECRET", "PASSWORD", "API_KEY"];

pub(super) fn all(check: bool) -> Vec<Check> {
    if check { vec![Check::new("residue-environment", environment)] } else { vec![] }
}

fn environment(host: &Host) -> CheckResult {
    let user = host.user.name.as_str();
    let mut findings = Vec::new();
    for (who, line) in [
        ("a login of root", &["runuser", "-l", "root", "-c", "env"][..]),
        ("a login of the user", &["runuser", "-l", user, "-c", "env"]),
        ("systemd's services", &["systemctl", "show-environment"]),
    ] {
        let output = host.stdout(line)?;
        findings.extend(output.lines().filter_map(build_variable).map(|name| format!("{name} is set in {who}")));
    }
    let apt = host.stdout(&["apt-config", "dump", "--no-empty", "--format", "%F=%v%n"])?;
    findings.extend(apt.lines().filter(|l| is_proxy_of_apt(l)).map(|l| format!("apt has {l}")));
    // Exit code 1: no such key.
    for (who, scope) in [("root", "--system"), ("the user", "--global")] {
        let line = ["git", "config", scope, "--get-regexp", "(proxy|sslcainfo|extraheader|insteadof)"];
        let output = if scope == "--system" { host.run(&line)? } else { host.run_as_user(&line, None, host.deadline)? };
        findings.extend(
            output.stdout.lines().map(|l| format!("git of {who} has {}", l.split(' ').next().unwrap_or_default())),
        );
    }
    if host.spec.works.npm {
        let output = host.user_stdout(&["npm", "config", "get", "proxy", "https-proxy", "cafile"], None)?;
        findings.extend(output.lines().filter(|l| is_set_in_npm(l)).map(|l| format!("npm has {l}")));
        // Without configuration files, npm prints its default.
        let registry = |more: &[&str]| host.user_stdout(&[&["npm", "config", "get", "registry"], more].concat(), None);
        let (used, default) =
            (registry(&[])?, registry(&["--userconfig=/nonexistent/user", "--globalconfig=/nonexistent/global"])?);
        if used != default {
            findings.push(format!("npm has the registry {}", used.trim()));
        }
    }
    if findings.is_empty() { Ok("no proxy and no build variable".to_owned()) } else { Err(findings.join("; ").into()) }
}

/// The name of the variable, if it is one of a build.
fn build_variable(line: &str) -> Option<&str> {
    let name = line.split_once('=')?.0;
    let upper = name.to_uppercase();
    let is_build = upper.ends_with("_PROXY")
        || BUILD_PREFIXES.iter().any(|o| upper.starts_with(o))
        || SECRET.iter().any(|s| upper.contains(s));
    is_build.then_some(name)
}

/// True for `Acquire::http::Proxy=...`, also for a single host, and for `Acquire::http::Proxy-Auto-Detect` (apt-transport-http(1)).
fn is_proxy_of_apt(line: &str) -> bool {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    name.to_lowercase().contains("::proxy") && !value.is_empty() && !value.eq_ignore_ascii_case("direct")
}

/// True for `proxy = http://...`; npm prints an unset value as `null` or `undefined`.
fn is_set_in_npm(line: &str) -> bool {
    let value = line.split_once('=').map_or(line, |(_, value)| value);
    !["null", "undefined", ""].contains(&value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_variables() {
        assert_eq!(build_variable("http_proxy=http://p:3128"), Some("http_proxy"));
        assert_eq!(build_variable("PACKER_BUILD_NAME=x"), Some("PACKER_BUILD_NAME"));
        assert_eq!(build_variable("OPENAI_API_KEY="), Some("OPENAI_API_KEY"));
        for line in ["PATH=/usr/bin", "HOME=/root", "LANG=C.UTF-8", "not a variable"] {
            assert_eq!(build_variable(line), None);
        }
    }

    #[test]
    fn proxies_of_apt_and_npm() {
        assert!(is_proxy_of_apt("Acquire::http::Proxy=http://p:3128"));
        assert!(!is_proxy_of_apt("Acquire::http::Proxy::ppa.example=DIRECT"));
        assert!(!is_proxy_of_apt("Acquire::http::Timeout=30"));
        assert!(is_set_in_npm("proxy = \"http://p\""));
        assert!(!is_set_in_npm("https-proxy = null") && !is_set_in_npm("cafile = undefined"));
    }
}
