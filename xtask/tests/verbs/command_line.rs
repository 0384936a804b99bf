//! Help, exit codes and `--format json`.

use super::*;

#[test]
fn each_line_of_json_output_is_an_event_and_the_last_is_the_result() {
    let project = Project::new();
    for (args, code) in [
        (&["ami", "plan", "--format", "json"][..], 0),
        (&["ami", "show", "nothing", "--format", "json"], 2),
        (&["validate", "--format", "json"], 0),
    ] {
        let ended = project.run(args);
        assert_eq!(ended.code, code, "{}", ended.stderr);
        let events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.iter().all(|e| e["schema"].is_number()), "an event without a schema");
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["ok"]), (&"result".into(), &(code == 0).into()), "{last}");
        if code != 0 {
            assert_eq!(last["exit"], code, "{last}");
        }
    }
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let project = Project::new();
    let help = project.run(&["--help"]);
    for word in ["ami release", "Exit codes", "doctor", "validate"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    project.run(&["ami", "biuld"]).assert_exit(2, &["biuld", "build"]);
}
