//! A second host beside the instance: a network namespace with an address of its own (RFC 5737, addresses for
//! documentation), from which the instance is looked at as strangers do.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::exec::Output;
use crate::instance::Instance;

/// The namespace and, with a digit, the ends of the cable to it.
const NAME: &str = "agent-ami-smoke";
const CABLE: [&str; 2] = ["aasmoke0", "aasmoke1"];

/// Configuration for this boot only; it sorts before all others.
const HANDS_OFF: &str = "/run/systemd/network/00-agent-ami-smoke.network";

/// The two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The instance's address on it.
    pub here: Ipv4Addr,
    /// The stranger's.
    pub there: Ipv4Addr,
}

impl Link {
    /// One of the 192 networks of four addresses in the documentation ranges. Another one for every run: fail2ban remembers
    /// whom it saw.
    fn from_seed(seed: u32) -> Self {
        const RANGES: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
        let [a, b, c] = RANGES[seed as usize % RANGES.len()];
        let first = ((seed / 3) % 64 * 4).to_le_bytes()[0];
        Self { here: Ipv4Addr::new(a, b, c, first + 1), there: Ipv4Addr::new(a, b, c, first + 2) }
    }
}

/// Makes the second host, once.
pub(crate) fn link(instance: &Instance, deadline: Instant) -> Result<Link, String> {
    let seed = instance.once("network", || {
        let seed = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|e| e.to_string())?;
        let seed = u32::from_str_radix(seed.get(..8).unwrap_or_default(), 16).map_err(|e| e.to_string())?;
        let link = Link::from_seed(seed);
        hands_off(instance, deadline)?;
        let (here, there) = (format!("{}/30", link.here), format!("{}/30", link.there));
        let [near, far] = CABLE;
        for line in [
            &["ip", "netns", "add", NAME][..],
            &["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", NAME],
            &["ip", "address", "add", &here, "dev", near],
            &["ip", "link", "set", near, "up"],
            &["ip", "-n", NAME, "address", "add", &there, "dev", far],
            &["ip", "-n", NAME, "link", "set", far, "up"],
        ] {
            let output = instance.root(line, deadline)?;
            if !output.ok() {
                return Err(format!("no second network to look from: `{}` {}", line.join(" "), output.gist()));
            }
        }
        Ok(seed.to_string())
    })?;
    Ok(Link::from_seed(seed.parse().unwrap_or_default()))
}

/// Tells systemd-networkd, if it runs, to leave our end of the cable alone (systemd.network(5), Unmanaged=).
fn hands_off(instance: &Instance, deadline: Instant) -> Result<(), String> {
    if !fs::exists("/run/systemd/netif/links").unwrap_or(false) {
        return Ok(());
    }
    let text = format!("[Match]\nName={}\n[Link]\nUnmanaged=yes\n", CABLE[0]);
    fs::create_dir_all("/run/systemd/network")
        .and_then(|()| fs::write(HANDS_OFF, text))
        .map_err(|e| format!("{HANDS_OFF}: {e}"))?;
    let output = instance.root(&["networkctl", "reload"], deadline)?;
    if output.ok() { Ok(()) } else { Err(format!("`networkctl reload` {}", output.gist())) }
}

/// Runs a program on the second host.
pub(crate) fn run(instance: &Instance, line: &[&str], deadline: Instant) -> Result<Output, String> {
    let whole: Vec<&str> = ["ip", "netns", "exec", NAME].into_iter().chain(line.iter().copied()).collect();
    instance.root(&whole, deadline)
}

/// True if the instance answers on the port to the second host within the time.
pub(crate) fn reaches(instance: &Instance, to: SocketAddr, wait: Duration, deadline: Instant) -> Result<bool, String> {
    let (to, wait) = (to.to_string(), wait.as_secs().to_string());
    let judge = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = run(instance, &[&judge.to_string_lossy(), "probe", &to, &wait], deadline)?;
    match output.code {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("the look from the second network {}", output.gist())),
    }
}

/// Takes the second host away; also one that an earlier run left.
pub(crate) fn remove(instance: &Instance) {
    if fs::exists(format!("/run/netns/{NAME}")).unwrap_or(false) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let _ = instance.root(&["ip", "netns", "delete", NAME], deadline);
        let _ = instance.root(&["ip", "link", "delete", CABLE[0]], deadline);
        let _ = fs::remove_file(HANDS_OFF);
    }
}

/// Connects: exit code 0 if somebody answers, 1 if not.
pub(crate) fn probe(address: SocketAddr, wait: Duration) -> u8 {
    u8::from(TcpStream::connect_timeout(&address, wait).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_a_network_for_documentation() {
        for seed in (0..100_000).chain([u32::MAX]) {
            let link = Link::from_seed(seed);
            assert!(link.here.is_documentation() && link.there.is_documentation(), "{link:?}");
            assert_eq!(u32::from(link.here) + 1, u32::from(link.there));
            assert_eq!(u32::from(link.here) % 4, 1, "the first address of its network");
        }
    }
}
