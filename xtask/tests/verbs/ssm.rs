//! `ssm`: its arguments.

use super::*;

#[test]
fn ssm_keepalive_requires_a_valid_target() {
    let project = Project::new();
    project.run(&["ssm", "keepalive"]).assert_exit(2, &["--target"]);
    project.run(&["ssm", "keepalive", "--target", "web-1"]).assert_exit(2, &["tag:KEY=VALUE"]);
}
