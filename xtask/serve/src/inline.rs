//! Templates that a request contains. They are built from a Git repository in the server's directory, so that they are confined like every template
//! of another project: they cannot read files, variables and programs of this machine.

use std::fs;
use std::path::Path;

use xtask::process::Cmd;
use xtask::recipe::Digest;

/// The file of the template in its repository.
const FILE: &str = "template.pkr.hcl";

/// Stores a template, and returns its source. The same content has the same source.
pub fn stored(dir: &Path, content: &str) -> Result<String, String> {
    let name = Digest::of(content.as_bytes()).to_string();
    let repository = dir.join("inline").join(&name);
    if !repository.join(".git/refs/heads/main").exists() {
        let failed = |e: std::io::Error| format!("cannot store the template: {e}");
        fs::create_dir_all(&repository).map_err(failed)?;
        fs::write(repository.join(FILE), content).map_err(failed)?;
        git(&repository, &["init", "--quiet", "--initial-branch=main"])?;
        git(&repository, &["add", FILE])?;
        git(&repository, &["commit", "--quiet", "--allow-empty", "--message=Inline template"])?;
    }
    Ok(format!("git::file://{}//{FILE}?ref=main", repository.display()))
}

fn git(repository: &Path, args: &[&str]) -> Result<(), String> {
    // The settings of the user have no effect on the repository.
    let git = Cmd::new("git").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let git = git.args(["-c", "user.name=agent-ami", "-c", "user.email=agent-ami@localhost", "-C"]);
    git.arg(repository).args(args).read().map(drop).map_err(|e| format!("cannot store the template: {e}"))
}
