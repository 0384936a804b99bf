//! Git repositories for tests, independent of the user's configuration.

use std::path::Path;

use xtask::process::Cmd;

/// Commits all files of a directory to the branch `main`, and creates the repository if necessary; returns the commit.
pub(crate) fn commit(dir: &Path, message: &str) -> String {
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgSign=false"];
        let cmd = Cmd::new("git").args(identity).args(args).dir(dir);
        cmd.env("GIT_CONFIG_GLOBAL", "/dev/null").read().unwrap().trim().to_owned()
    };
    if !dir.join(".git").exists() {
        git(&["init", "--quiet", "--initial-branch=main"]);
    }
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", message]);
    git(&["rev-parse", "HEAD"])
}
