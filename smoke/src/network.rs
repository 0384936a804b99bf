//! A second host: a network namespace that a veth pair connects to the instance, with an address for documentation (RFC 5737). Checks
//! connect from it as a host on another network would.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::exec::{self, Output};

const NAMESPACE: &str = "agent-ami-smoke";
/// The instance's end of the veth pair and the second host's.
const VETH: [&str; 2] = ["aasmoke0", "aasmoke1"];

/// In /run, so it lasts until the next boot; the name sorts before other files, and the first file that matches an interface applies.
const NETWORKD_FILE: &str = "/run/systemd/network/00-agent-ami-smoke.network";

/// Addresses of the two ends of the veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The instance's.
    pub here: Ipv4Addr,
    /// The second host's.
    pub there: Ipv4Addr,
}

impl Link {
    /// One of the 192 networks of four addresses in the documentation ranges. Each run takes another one, because fail2ban keeps a count
    /// per address.
    fn from_seed(seed: u32) -> Self {
        const RANGES: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
        let [a, b, c] = RANGES[seed as usize % RANGES.len()];
        let first = ((seed / 3) % 64 * 4).to_le_bytes()[0];
        Self { here: Ipv4Addr::new(a, b, c, first + 1), there: Ipv4Addr::new(a, b, c, first + 2) }
    }
}

/// Creates the second host.
pub(crate) fn create(deadline: Instant) -> Result<Link, String> {
    let seed = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|e| e.to_string())?;
    let seed = u32::from_str_radix(seed.get(..8).unwrap_or_default(), 16).map_err(|e| e.to_string())?;
    let link = Link::from_seed(seed);
    exclude_from_networkd(deadline)?;
    let (here, there) = (format!("{}/30", link.here), format!("{}/30", link.there));
    let [near, far] = VETH;
    for line in [
        &["ip", "netns", "add", NAMESPACE][..],
        &["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", NAMESPACE],
        &["ip", "address", "add", &here, "dev", near],
        &["ip", "link", "set", near, "up"],
        &["ip", "-n", NAMESPACE, "address", "add", &there, "dev", far],
        &["ip", "-n", NAMESPACE, "link", "set", far, "up"],
    ] {
        let output = exec::root(line, deadline)?;
        if !output.ok() {
            return Err(format!("cannot create a second network: `{}` {}", line.join(" "), output.summary()));
        }
    }
    Ok(link)
}

/// Keeps systemd-networkd, if it runs, from configuring the instance's end (systemd.network(5), Unmanaged=).
fn exclude_from_networkd(deadline: Instant) -> Result<(), String> {
    if !fs::exists("/run/systemd/netif/links").unwrap_or(false) {
        return Ok(());
    }
    let text = format!("[Match]\nName={}\n[Link]\nUnmanaged=yes\n", VETH[0]);
    fs::create_dir_all("/run/systemd/network")
        .and_then(|()| fs::write(NETWORKD_FILE, text))
        .map_err(|e| format!("{NETWORKD_FILE}: {e}"))?;
    exec::root_stdout(&["networkctl", "reload"], deadline).map(|_| ())
}

/// Runs a program on the second host.
pub(crate) fn run(line: &[&str], deadline: Instant) -> Result<Output, String> {
    let whole: Vec<&str> = ["ip", "netns", "exec", NAMESPACE].into_iter().chain(line.iter().copied()).collect();
    exec::root(&whole, deadline)
}

/// True if the second host can connect to the address of the instance within the timeout.
pub(crate) fn reaches(to: SocketAddr, timeout: Duration, deadline: Instant) -> Result<bool, String> {
    let (to, timeout) = (to.to_string(), timeout.as_secs().to_string());
    let smoke = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = run(&[&smoke.to_string_lossy(), "probe", &to, &timeout], deadline)?;
    match output.code {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("the connection test from the second network {}", output.summary())),
    }
}

/// Removes the second host, also that of an earlier run that was killed.
pub(crate) fn remove() {
    if fs::exists(format!("/run/netns/{NAMESPACE}")).unwrap_or(false) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let _ = exec::root(&["ip", "netns", "delete", NAMESPACE], deadline);
        let _ = exec::root(&["ip", "link", "delete", VETH[0]], deadline);
        let _ = fs::remove_file(NETWORKD_FILE);
    }
}

/// Exit code of `smoke probe`: 0 if the address accepts the connection within the timeout, else 1.
pub(crate) fn probe(address: SocketAddr, timeout: Duration) -> u8 {
    u8::from(TcpStream::connect_timeout(&address, timeout).is_err())
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
