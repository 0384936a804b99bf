//! Which requests are answered at all: the Host and Origin headers, against DNS rebinding and requests of other sites' pages; and how many per
//! minute.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::problem::Problem;

/// Wrong tokens of one address in a minute above which its requests without a valid token are refused.
const WRONG_TOKENS: NonZeroU32 = NonZeroU32::new(30).expect("not zero");

/// The limits of requests, by client.
#[derive(Debug)]
pub struct Limits {
    requests: DefaultKeyedRateLimiter<String>,
    wrong_tokens: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    pub fn new(per_minute: u32) -> Self {
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        Self {
            requests: RateLimiter::keyed(Quota::per_minute(per_minute)),
            wrong_tokens: RateLimiter::keyed(Quota::per_minute(WRONG_TOKENS)),
        }
    }

    /// Counts a request of a client: a token's name, or an address.
    pub fn request(&self, client: &str) -> Result<(), Problem> {
        let counted = self.requests.check_key(&client.to_owned());
        counted.map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }

    /// Counts a wrong token.
    pub fn wrong_token(&self, from: SocketAddr) -> Result<(), Problem> {
        let counted = self.wrong_tokens.check_key(&from.ip());
        counted.map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }

    /// Forgets clients that sent nothing for long.
    pub fn tidy(&self) {
        self.requests.retain_recent();
        self.wrong_tokens.retain_recent();
    }
}

fn too_many(wait: std::time::Duration) -> Problem {
    let detail = "too many requests; the limit is `requests_per_minute` in [serve] of ami.toml";
    Problem { retry_after: Some(wait.as_secs() + 1), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail) }
}

/// Refuses a request for another host, and one that another site's page sends.
pub fn check(method: &Method, uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), Problem> {
    let forbidden = |detail: String| Problem::new(StatusCode::FORBIDDEN, detail);
    // HTTP/2 has the host in the URI.
    let named = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default().to_owned());
    let host = named.or_else(|| uri.authority().map(ToString::to_string));
    let Some(host) = host else { return Err(Problem::new(StatusCode::BAD_REQUEST, "the request has no Host header")) };
    if !is_ours(&host, hosts) {
        let hint = "add it to `hosts` in [serve] of ami.toml if clients use it";
        return Err(forbidden(format!("this server is not `{host}`; {hint}")));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| is_ours(authority, hosts)) {
            return Err(forbidden(format!("a page of `{origin}` must not use this server")));
        }
    }
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site == Some("cross-site") && method != Method::GET {
        return Err(forbidden("a page of another site must not change anything".to_owned()));
    }
    Ok(())
}

/// True for a loopback address, `localhost`, and the configured names, with any port or with the configured one.
fn is_ours(authority: &str, hosts: &[String]) -> bool {
    if hosts.iter().any(|host| host.eq_ignore_ascii_case(authority)) {
        return true;
    }
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_loopback = address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost") || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(host: &str, origin: Option<&str>) -> Option<u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let hosts = ["ami.example.com".to_owned(), "other.example.com:8443".to_owned()];
        check(&Method::POST, &Uri::from_static("/"), &headers, &hosts).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_loopback_and_configured_hosts_are_answered() {
        for host in [
            "127.0.0.1:8470",
            "127.9.9.9",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8470",
            "[::1]",
            "ami.example.com",
            "AMI.example.com:443",
            "other.example.com:8443",
        ] {
            assert_eq!(answer(host, None), None, "{host}");
        }
        for host in [
            "evil.com",
            "evil.com:8470",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "other.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "localhost:x",
            "",
            "ami.example.com.evil.com",
        ] {
            assert_eq!(answer(host, None), Some(403), "{host}");
        }
        let none = check(&Method::GET, &Uri::from_static("/"), &HeaderMap::new(), &[]);
        assert_eq!(none.unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        assert_eq!(answer("localhost", Some("http://localhost:8470")), None);
        assert_eq!(answer("localhost", Some("https://ami.example.com")), None);
        for origin in [
            "https://evil.com",
            "null",
            "file://localhost",
            "",
            "http://localhost@evil.com",
            "http://localhost.evil.com",
        ] {
            assert_eq!(answer("localhost", Some(origin)), Some(403), "{origin}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert!(check(&Method::POST, &Uri::from_static("/"), &headers, &[]).is_err());
        assert!(check(&Method::GET, &Uri::from_static("/"), &headers, &[]).is_ok());
    }

    #[test]
    fn a_client_is_limited_and_others_are_not() {
        let limits = Limits::new(3);
        assert!((0..3).all(|_| limits.request("ci").is_ok()));
        let refused = limits.request("ci").unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{refused:?}");
        assert!(limits.request("other").is_ok());
    }
}
