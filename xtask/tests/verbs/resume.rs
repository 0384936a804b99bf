//! `ami resume`: the state after a process was killed at each point.

use super::*;

#[test]
fn resume_and_gc_of_a_workflow_succeed_with_and_without_an_interrupted_run() {
    let project = with_parameters();
    project.run(&["ami", "resume"]).assert_exit(2, &["no run was interrupted"]);
    project.run(&["ami", "resume", "--if-any"]).assert_exit(0, &["no run was interrupted"]);
    project.run(&["ami", "gc", "--mine"]).assert_exit(0, &["no run of this state directory has ended"]);
    let image = project.ready("20261121-0001");
    let mut command = project.command(&["ami", "promote", &image.id.0, "--yes"]);
    command.env("LEDGER_PAUSE_AT", "after:1");
    Stopped::start(&command).kill();
    project.run(&["ami", "resume", "--if-any", "--yes"]).assert_exit(0, &[]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &image));
    let mine = project.data(&["ami", "gc", "--mine", "--apply", "--yes"]);
    assert_eq!(mine["decisions"].as_array().unwrap().len(), 0, "{mine}");
}

#[test]
fn resume_finishes_a_promotion_that_was_killed_at_any_point() {
    let complete = {
        let project = with_parameters();
        let image = project.ready("20261121-0001");
        promote(&project, &image, "staging").assert_exit(0, &[]);
        (points_at(&project, "staging"), fs::read_to_string(project.path("channels/staging.env")).unwrap())
    };
    for point in 1..=9 {
        for when in ["before", "after"] {
            let project = with_parameters();
            let image = project.ready("20261121-0001");
            let mut command = project.command(&["ami", "promote", &image.id.0, "--yes"]);
            command.env("LEDGER_PAUSE_AT", format!("{when}:{point}"));
            Stopped::start(&command).kill();
            let runs = project.data(&["ami", "runs", "--unfinished"])["runs"].clone();
            assert_eq!(runs[0]["standing"], "killed", "{when} {point}");
            project.run(&["ami", "resume", "--yes"]).assert_exit(0, &[]);
            let now =
                (points_at(&project, "staging"), fs::read_to_string(project.path("channels/staging.env")).unwrap());
            assert_eq!(now, complete, "{when} {point}");
            let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
            assert_eq!(history.as_array().unwrap().len(), 1, "{when} {point}: {history}");
            assert!(history[0]["ended"].is_string());
            project.run(&["ami", "resume"]).assert_exit(2, &["no run was interrupted"]);
        }
    }
}

#[test]
fn resume_of_a_rollback_that_was_killed_at_any_point_goes_back_one_image_only() {
    for point in 1..=9 {
        for when in ["before", "after"] {
            let project = with_parameters();
            let images: Vec<Image> = (1..=3).map(|n| project.ready(&format!("20261121-000{n}"))).collect();
            for image in &images {
                promote(&project, image, "staging").assert_exit(0, &[]);
            }
            let mut command =
                project.command(&["ami", "rollback", "--channel", "staging", "--reason", "boots no more", "--yes"]);
            command.env("LEDGER_PAUSE_AT", format!("{when}:{point}"));
            Stopped::start(&command).kill();
            project.run(&["ami", "resume", "--yes"]).assert_exit(0, &[]);
            assert_eq!(points_at(&project, "staging"), ids(&project, &images[1]), "{when} {point}");
            promote(&project, &images[2], "staging").assert_exit(1, &["it is quarantined"]);
            let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
            assert_eq!(history.as_array().unwrap().len(), 4, "{when} {point}: {history}");
        }
    }
}

#[test]
fn resume_finishes_a_deletion_that_was_killed_at_any_point() {
    for when in ["before", "after"] {
        let project = Project::new();
        let image = project.image("local-1", "20261121-0001");
        let mut command = project.command(&["ami", "delete", &image.id.0, "--yes"]);
        command.env("LEDGER_PAUSE_AT", format!("{when}:1"));
        Stopped::start(&command).kill();
        project.run(&["ami", "resume", "--yes"]).assert_exit(0, &[]);
        assert_eq!(project.data(&["ami", "list"])["images"], serde_json::json!([]));
        project.run(&["ami", "gc"]).assert_exit(0, &["0 to remove"]);
    }
}
