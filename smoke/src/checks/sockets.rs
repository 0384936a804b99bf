//! Listening sockets: those that listened before any check ran are exactly those of the spec.

use smoke::spec::Network;

use crate::check::{Check, CheckResult, Host};
use crate::proc_net::Socket;

pub(super) fn all(network: Option<&Network>) -> Vec<Check> {
    let Some(network) = network.cloned() else { return vec![] };
    vec![Check::new("listening-sockets", move |host| check(host, &network))]
}

fn check(host: &Host, network: &Network) -> CheckResult {
    let (missing, unlisted) = compare(host.sockets()?, network);
    if missing.is_empty() && unlisted.is_empty() {
        return Ok(format!("only {}", network.listen.join(", ")));
    }
    let mut findings = Vec::new();
    if !missing.is_empty() {
        findings.push(format!("no socket listens on {}", missing.join(", ")));
    }
    if !unlisted.is_empty() {
        // The program that has the socket, if it still listens.
        let programs = host.stdout(&["ss", "-Hlntup"]).unwrap_or_default();
        let with_program = |socket: &Socket| {
            let port = format!(":{} ", socket.address.port());
            let users = programs
                .lines()
                .find(|l| l.contains(&port))
                .and_then(|l| l.split_once("users:"))
                .map(|(_, users)| users.trim());
            users.map_or_else(|| socket.to_string(), |users| format!("{socket} {users}"))
        };
        let unlisted: Vec<String> = unlisted.into_iter().map(with_program).collect();
        findings.push(format!("not in the spec: {}", unlisted.join(", ")));
    }
    Err(findings.join("; ").into())
}

/// The required sockets that do not listen, and the listening sockets that the spec does not list.
fn compare<'a>(found: &'a [Socket], network: &Network) -> (Vec<String>, Vec<&'a Socket>) {
    let is = |socket: &Socket, entry: &String| *entry == socket.to_string() || *entry == socket.port_and_protocol();
    let missing =
        network.listen.iter().filter(|entry| !found.iter().any(|socket| is(socket, entry))).cloned().collect();
    let listed = || network.listen.iter().chain(&network.may_listen);
    let unlisted = found.iter().filter(|socket| !listed().any(|entry| is(socket, entry))).collect();
    (missing, unlisted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_unlisted_sockets() {
        let network = Network {
            listen: vec!["22/tcp".into()],
            may_listen: vec!["127.0.0.53:53/udp".into()],
            ..Network::default()
        };
        let socket = |address: &str, udp| Socket { address: address.parse().unwrap(), udp };
        let good = [socket("0.0.0.0:22", false), socket("[::]:22", false), socket("127.0.0.53:53", true)];
        assert_eq!(compare(&good, &network), (vec![], vec![]));
        let unlisted = socket("0.0.0.0:53", true);
        assert_eq!(compare(std::slice::from_ref(&unlisted), &network), (vec!["22/tcp".to_owned()], vec![&unlisted]));
    }
}
