//! `ami build`: two at the same time.

use super::*;

#[test]
fn a_second_build_fails_with_the_process_id_of_the_first() {
    let project = Project::new();
    let state = State::open(project.path(".agent-ami")).unwrap();
    let _held = state.lock("build", "cargo xtask ami build").unwrap();
    let holder = format!("process {}", std::process::id());
    project.run(&["ami", "build"]).assert_exit(3, &[&holder, "cargo xtask ami build"]);
}
