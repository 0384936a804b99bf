//! The pages of `cargo xtask serve`: functions from view types to HTML. They read and write nothing.
//!
//! A page works without scripts. `live.js` adds updates; it is the only script, and [`CSP`] refuses every other one.

pub mod clean;
pub mod view;
pub mod log;
pub mod progress;
mod layout;
mod home;
mod build;
mod image;
mod session;
#[cfg(test)]
mod tests;

pub use build::build;
pub use home::home;
pub use image::image;
pub use session::{error, login};

/// Value of the header `Content-Security-Policy` of every page.
pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                       form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// `/assets/style.css`, `text/css`.
pub const STYLE: &str = include_str!("page/style.css");
/// `/assets/live.js`, `text/javascript`.
pub const SCRIPT: &str = include_str!("page/live.js");
/// `/assets/icon.svg`, `image/svg+xml`. Without it browsers request `/favicon.ico`.
pub const ICON: &str = include_str!("page/icon.svg");
