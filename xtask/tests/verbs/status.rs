//! `ami status`.

use super::*;

#[test]
fn a_failed_build_is_shown_with_its_error_region_and_agent() {
    let project = Project::new();
    project.run(&["ami", "status"]).assert_exit(2, &["no build in this state directory"]);
    let promoted = project.ready("20261121-0001");
    let promote = ["ami", "promote", &promoted.id.0, "--override", "release", "--yes"];
    project.run(&promote).assert_exit(0, &[]);
    project.run(&["ami", "status"]).assert_exit(2, &["no build in this state directory"]);
    let state = State::open(project.path(".agent-ami")).unwrap();
    let other = state.lock("build", "another build").unwrap();
    let build = project.run(&["ami", "build", "--region", "local-2", "--provider", "codex"]);
    build.assert_exit(3, &["build is busy", "another build"]);
    drop(other);
    let status = project.data(&["ami", "status"]);
    assert_eq!(
        (&status["status"], &status["provider"], &status["region"], &status["image_id"]),
        (&"failed".into(), &"codex".into(), &"local-2".into(), &Value::Null)
    );
    assert!(status["error"].as_str().unwrap().contains("build is busy"), "{status}");
    assert!(status["started_at"].is_string() && status["completed_at"].is_string());
    let run = status["build_id"].as_str().unwrap();
    let shown = project.run(&["ami", "status", run]);
    shown.assert_exit(0, &[]);
    assert!(shown.stdout.contains("status     failed") && shown.stdout.contains(run), "{}", shown.stdout);
    project.run(&["ami", "status", "run-0"]).assert_exit(2, &["no build `run-0`", "ami runs"]);
}
