//! The pages around a session: login, and errors.

use maud::{Markup, html};

use super::clean;
use super::layout::Document;

/// Renders the page `/login`. `failure` is why the last attempt failed.
pub fn login(failure: Option<&str>) -> Markup {
    let content = html! {
        h1 { "Log in" }
        @if let Some(failure) = failure { p.problems #failure role="alert" { (clean::line(failure)) } }
        form.login method="post" action="/login" {
            // For password managers, which store a password with a name. It is not sent.
            input type="text" autocomplete="username" value="agent-ami" hidden;
            label for="token" { "Token" }
            input #token type="password" name="token" required autofocus autocomplete="current-password"
                maxlength="512" spellcheck="false" aria-invalid=[failure.map(|_| "true")]
                aria-describedby=[failure.map(|_| "failure")];
            button type="submit" { "Log in" }
        }
        p.hint { "To create a token: " code { "cargo xtask serve token create NAME --scope read" } }
    };
    Document { title: "Log in", user: None, live: None }.render(&content)
}

/// Renders an error. `user` is the name of the token if there is a session.
pub fn error(status: u16, detail: &str, user: Option<&str>) -> Markup {
    let reason = match status {
        400 => "Bad request",
        403 => "Forbidden",
        404 => "Not found",
        405 => "Method not allowed",
        429 => "Too many requests",
        503 => "Service unavailable",
        500.. => "Internal server error",
        _ => "Error",
    };
    let title = format!("{status} {reason}");
    let content = html! {
        h1 { (title) }
        p { (clean::line(detail)) }
        p { a href="/" { "All builds and images" } }
    };
    Document { title: &title, user, live: None }.render(&content)
}
