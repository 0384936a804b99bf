//! Errors of the SDK as texts for messages.

use std::error::Error;

/// An error and its sources, outermost first.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The Display texts of an error and its sources in one line, without duplicates. Not the Debug texts, which show the SDK's internal types.
pub(crate) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_is_printed_in_one_line() {
        let inner = io::Error::other("connection\n  refused");
        let error = io::Error::other(io::Error::other(inner));
        assert_eq!(in_one_line(&error), "connection refused");
    }

    #[test]
    fn each_cause_is_printed_once_outermost_first() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("dispatch failure")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let line = in_one_line(&Outer(io::Error::other("connection refused")));
        assert_eq!(line, "dispatch failure: connection refused");
    }
}
