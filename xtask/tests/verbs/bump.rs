//! `ami bump`.

use super::*;

#[test]
fn bump_derives_the_version_from_the_changes_and_writes_it_with_the_reasons() {
    let project = Project::new();
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    project.run(&["ami", "bump"]).assert_exit(0, &["no release before"]);
    promote(&project, &old, "staging").assert_exit(0, &[]);
    project.contents(&old, &[("node", "24.1.0"), ("claude", "2.1.0")]);
    project.run(&["ami", "bump", &new.id.0]).assert_exit(3, &["are unknown: no manifest.json", "ami smoke"]);
    project.contents(&new, &[("node", "24.1.0"), ("claude", "2.1.0")]);
    project.run(&["ami", "bump", &new.id.0]).assert_exit(0, &["no new version is required"]);
    project.contents(&new, &[("node", "26.0.0"), ("claude", "2.1.9"), ("gemini", "1.0.0")]);
    let proposed = project.data(&["ami", "bump", &new.id.0, "--dry-run"]);
    assert_eq!(
        (&proposed["from"], &proposed["to"], &proposed["level"]),
        (&"1.0.0".into(), &"2.0.0".into(), &"major".into())
    );
    let before = fs::read_to_string(project.path("ami.toml")).unwrap();
    project.run(&["ami", "bump", &new.id.0]).assert_exit(3, &["--yes"]);
    project.run(&["ami", "bump", &new.id.0, "--yes"]).assert_exit(0, &["2.0.0"]);
    let after = fs::read_to_string(project.path("ami.toml")).unwrap();
    assert_eq!(after, before.replacen("version = \"1.0.0\"", "version = \"2.0.0\"", 1), "only the version changed");
    let log = fs::read_to_string(project.path("CHANGELOG.md")).unwrap();
    for line in
        ["## locus-agent 2.0.0", "- MAJOR: node 24.1.0 -> 26.0.0", "- MINOR: gemini 1.0.0 added", "- PATCH: claude"]
    {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    project.run(&["ami", "bump", &new.id.0]).assert_exit(0, &["already has version 2.0.0"]);
}
