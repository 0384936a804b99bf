//! Sessions of the page: a browser cannot send a token with each request, so it exchanges one for a cookie. Kept in memory, they end with the
//! server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::tokens::hash;

/// The cookie.
pub const COOKIE: &str = "ami_session";
/// Time after which a session ends.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions that exist at the same time. The oldest one is ended for a new one.
const MOST: usize = 1000;

/// The sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    // By the hash of the cookie, so that the time of a lookup does not depend on how much of a cookie is correct.
    open: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl Sessions {
    /// Begins a session for a token. Returns the value of the cookie.
    pub fn begin(&self, token: &str) -> String {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, began)| began.elapsed() < LIFETIME);
        if open.len() >= MOST
            && let Some(oldest) = open.iter().min_by_key(|(_, (_, began))| *began).map(|(key, _)| key.clone())
        {
            open.remove(&oldest);
        }
        open.insert(hash(&secret), (token.to_owned(), Instant::now()));
        secret
    }

    /// The name of the token that a session was begun with.
    pub fn token(&self, cookie: &str) -> Option<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&hash(cookie)).filter(|(_, began)| began.elapsed() < LIFETIME).map(|(token, _)| token.clone())
    }

    /// Ends a session.
    pub fn end(&self, cookie: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(cookie));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_and_the_number_of_sessions_is_limited() {
        let sessions = Sessions::default();
        let first = sessions.begin("ci");
        assert_eq!(sessions.token(&first).as_deref(), Some("ci"));
        assert_eq!(sessions.token("guess"), None);
        for _ in 0..MOST {
            sessions.begin("ci");
        }
        assert_eq!(sessions.token(&first), None, "the oldest is ended");
        let last = sessions.begin("ci");
        sessions.end(&last);
        assert_eq!(sessions.token(&last), None);
    }
}
