//! `test`.

use super::*;

#[test]
fn test_runs_the_parts_that_are_given() {
    let project = Project::new();
    project.run(&["test", "--part", "nonsense"]).assert_exit(2, &["nonsense", "format, lint, validate, unit, agents"]);
    project.run(&["test", "--part", "format,deny,kill", "--no-vm"]).assert_exit(2, &["--part"]);
    let plan = project.run(&["test", "--part", "format,kill", "--dry-run"]);
    let ids: Vec<&str> = plan.stdout.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(ids, ["format", "kill"], "{}", plan.stdout);
}
