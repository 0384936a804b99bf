//! Listening sockets: exactly the spec's, as they were before any check ran.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fmt, fs};

use smoke::spec::Network;

use super::{Check, Host, Verdict};

pub(super) fn all(network: Option<&Network>) -> Vec<Check> {
    let Some(network) = network.cloned() else { return vec![] };
    vec![Check::new("listening-sockets", move |host| check(host, &network))]
}

fn check(host: &Host, network: &Network) -> Verdict {
    let (missing, beyond) = compare(host.sockets()?, network);
    if missing.is_empty() && beyond.is_empty() {
        return Ok(format!("only {}", network.listen.join(", ")));
    }
    let mut wrong = Vec::new();
    if !missing.is_empty() {
        wrong.push(format!("nobody listens on {}", missing.join(", ")));
    }
    if !beyond.is_empty() {
        // Who it is, if it still is.
        let programs = host.ask(&["ss", "-Hlntup"]).unwrap_or_default();
        let named = |socket: &Socket| {
            let port = format!(":{} ", socket.address.port());
            let users = programs
                .lines()
                .find(|l| l.contains(&port))
                .and_then(|l| l.split_once("users:"))
                .map(|(_, users)| users.trim());
            users.map_or_else(|| socket.to_string(), |users| format!("{socket} {users}"))
        };
        wrong.push(format!("beyond the spec's: {}", beyond.into_iter().map(named).collect::<Vec<_>>().join(", ")));
    }
    Err(wrong.join("; ").into())
}

/// What the spec wants and is not there, and what is there and the spec does not have.
fn compare<'a>(found: &'a [Socket], network: &Network) -> (Vec<String>, Vec<&'a Socket>) {
    let is = |socket: &Socket, entry: &String| *entry == socket.to_string() || *entry == socket.anywhere();
    let missing =
        network.listen.iter().filter(|entry| !found.iter().any(|socket| is(socket, entry))).cloned().collect();
    let known = || network.listen.iter().chain(&network.may_listen);
    let beyond = found.iter().filter(|socket| !known().any(|entry| is(socket, entry))).collect();
    (missing, beyond)
}

/// A socket that takes connections or datagrams from anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    address: SocketAddr,
    udp: bool,
}

impl Socket {
    fn protocol(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    /// Without its address: `22/tcp`.
    fn anywhere(&self) -> String {
        format!("{}/{}", self.address.port(), self.protocol())
    }
}

/// `127.0.0.1:25/tcp`
impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol())
    }
}

/// The sockets that listen now (proc_net(5)).
pub(crate) fn listening() -> Result<Vec<Socket>, String> {
    let mut sockets = Vec::new();
    for (file, udp) in [("tcp", false), ("tcp6", false), ("udp", true), ("udp6", true)] {
        let path = format!("/proc/net/{file}");
        match fs::read_to_string(&path) {
            Ok(text) => sockets.extend(text.lines().skip(1).filter_map(|line| read(line, udp))),
            // Without IPv6 in the kernel there is no such file.
            Err(_) if file.ends_with('6') => {}
            Err(e) => return Err(format!("{path}: {e}")),
        }
    }
    Ok(sockets)
}

/// A line, if it is of a TCP socket that listens (state 0A) or of a UDP socket without a peer (07).
fn read(line: &str, udp: bool) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    if state != if udp { "07" } else { "0A" } {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    Some(Socket { address: SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?), udp })
}

/// Words of 32 bits, each in the processor's order.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|n| Some(u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    match words?.as_slice() {
        [only] => Some(Ipv4Addr::from(*only).into()),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(line: &str, udp: bool) -> Option<String> {
        read(line, udp).map(|s| s.to_string())
    }

    #[test]
    fn listeners_are_read_from_proc() {
        let line = "   0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 1";
        assert_eq!(socket(line, false).unwrap(), "127.0.0.53:53/tcp");
        assert_eq!(socket(line, true), None);
        let six =
            "   1: 00000000000000000000000001000000:0143 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 2";
        assert_eq!(socket(six, true).unwrap(), "[::1]:323/udp");
        assert_eq!(socket(&line.replace(" 0A ", " 01 "), false), None, "a connection");
    }

    #[test]
    fn exactly_the_specs_sockets_listen() {
        let network = Network {
            listen: vec!["22/tcp".into()],
            may_listen: vec!["127.0.0.53:53/udp".into()],
            ..Network::default()
        };
        let socket = |address: &str, udp| Socket { address: address.parse().unwrap(), udp };
        let good = [socket("0.0.0.0:22", false), socket("[::]:22", false), socket("127.0.0.53:53", true)];
        assert_eq!(compare(&good, &network), (vec![], vec![]));
        let stranger = socket("0.0.0.0:53", true);
        assert_eq!(compare(std::slice::from_ref(&stranger), &network), (vec!["22/tcp".to_owned()], vec![&stranger]));
    }
}
