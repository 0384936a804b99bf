//! What the build set for itself and nobody may find on an instance: proxies, tokens, certificate bundles.

use super::{Check, Host, Verdict};

/// Variables of builders, whatever they are set to.
const OURS: [&str; 12] = [
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
const SECRET: [&str; 4] = ["TOKEN", "SECRET", "PASSWORD", "API_KEY"];

pub(super) fn all(check: bool) -> Vec<Check> {
    if check { vec![Check::new("residue-environment", environment)] } else { vec![] }
}

fn environment(host: &Host) -> Verdict {
    let user = host.user.name.as_str();
    let mut wrong = Vec::new();
    for (who, line) in [
        ("a login of root", &["runuser", "-l", "root", "-c", "env"][..]),
        ("a login of the user", &["runuser", "-l", user, "-c", "env"]),
        ("systemd's services", &["systemctl", "show-environment"]),
    ] {
        let said = host.ask(line)?;
        wrong.extend(said.lines().filter_map(builders).map(|name| format!("{name} is set in {who}")));
    }
    let apt = host.ask(&["apt-config", "dump", "--no-empty", "--format", "%F=%v%n"])?;
    wrong.extend(apt.lines().filter(|l| is_proxy_of_apt(l)).map(|l| format!("apt has {l}")));
    // Exit code 1: there is none.
    for (who, scope) in [("root", "--system"), ("the user", "--global")] {
        let line = ["git", "config", scope, "--get-regexp", "(proxy|sslcainfo|extraheader|insteadof)"];
        let said =
            if scope == "--system" { host.root(&line, host.deadline)? } else { host.user(&line, None, host.deadline)? };
        wrong.extend(
            said.stdout.lines().map(|l| format!("git of {who} has {}", l.split(' ').next().unwrap_or_default())),
        );
    }
    if host.spec.works.npm {
        let said = host.ask_as_user(&["npm", "config", "get", "proxy", "https-proxy", "cafile"], None)?;
        wrong.extend(said.lines().filter(|l| is_set_in_npm(l)).map(|l| format!("npm has {l}")));
        // npm's own default is what it says without its files.
        let registry = |more: &[&str]| host.ask_as_user(&[&["npm", "config", "get", "registry"], more].concat(), None);
        let (used, default) =
            (registry(&[])?, registry(&["--userconfig=/nonexistent/user", "--globalconfig=/nonexistent/global"])?);
        if used != default {
            wrong.push(format!("npm has the registry {}", used.trim()));
        }
    }
    if wrong.is_empty() { Ok("no proxy, no variable of a build".to_owned()) } else { Err(wrong.join("; ").into()) }
}

/// The name of a variable that only a build needs.
fn builders(line: &str) -> Option<&str> {
    let name = line.split_once('=')?.0;
    let upper = name.to_uppercase();
    let is = upper.ends_with("_PROXY")
        || OURS.iter().any(|o| upper.starts_with(o))
        || SECRET.iter().any(|s| upper.contains(s));
    is.then_some(name)
}

/// `Acquire::http::Proxy=...`, also for one host alone; `Acquire::http::Proxy-Auto-Detect` is another way to one (apt-transport-http(1)).
fn is_proxy_of_apt(line: &str) -> bool {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    name.to_lowercase().contains("::proxy") && !value.is_empty() && !value.eq_ignore_ascii_case("direct")
}

/// `proxy = http://...`; an unset value is `null` or `undefined`.
fn is_set_in_npm(line: &str) -> bool {
    let value = line.split_once('=').map_or(line, |(_, value)| value);
    !["null", "undefined", ""].contains(&value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_builds_are_known() {
        assert_eq!(builders("http_proxy=http://p:3128"), Some("http_proxy"));
        assert_eq!(builders("PACKER_BUILD_NAME=x"), Some("PACKER_BUILD_NAME"));
        assert_eq!(builders("OPENAI_API_KEY="), Some("OPENAI_API_KEY"));
        for line in ["PATH=/usr/bin", "HOME=/root", "LANG=C.UTF-8", "not a variable"] {
            assert_eq!(builders(line), None);
        }
    }

    #[test]
    fn proxies_of_apt_and_npm_are_known() {
        assert!(is_proxy_of_apt("Acquire::http::Proxy=http://p:3128"));
        assert!(!is_proxy_of_apt("Acquire::http::Proxy::ppa.example=DIRECT"));
        assert!(!is_proxy_of_apt("Acquire::http::Timeout=30"));
        assert!(is_set_in_npm("proxy = \"http://p\""));
        assert!(!is_set_in_npm("https-proxy = null") && !is_set_in_npm("cafile = undefined"));
    }
}
