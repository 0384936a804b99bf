//! Any sequence of commands.

use super::*;

/// Commands that change channels and images.
#[derive(Clone, Debug)]
enum Action {
    Promote(usize, &'static str),
    Rollback(&'static str),
    Collect,
    Delete(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let channel = prop::sample::select(vec!["staging", "production"]);
    let action = prop_oneof![
        4 => (0..4_usize, channel.clone()).prop_map(|(i, c)| Action::Promote(i, c)),
        2 => channel.prop_map(Action::Rollback),
        3 => Just(Action::Collect),
        1 => (0..4_usize).prop_map(Action::Delete),
    ];
    prop::collection::vec(action, 4..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn no_channel_points_at_a_missing_image_after_any_sequence_of_commands(actions in actions()) {
        let project = with_parameters();
        // gc keeps no image because of its age.
        project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
        project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
        project.edit("ami.toml", "deprecate_days = 7", "deprecate_days = 0");
        let images: Vec<Image> = (1..=4).map(|n| project.ready(&format!("20261121-000{n}"))).collect();
        for action in &actions {
            match action {
                Action::Promote(i, channel) => {
                    let id = &images[*i].id.0;
                    let ended = project.run(&["ami", "promote", id, "--channel", channel, "--yes", "--override", "a test"]);
                    // Refused if the image was deleted or is under quarantine.
                    prop_assert!([0, 1, 2].contains(&ended.code), "{}", ended.stderr);
                }
                Action::Rollback(channel) => {
                    let ended = project.run(&["ami", "rollback", "--channel", channel, "--reason", "bad", "--yes"]);
                    prop_assert!([0, 1].contains(&ended.code), "{}", ended.stderr);
                }
                Action::Collect => project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &[]),
                Action::Delete(i) => {
                    let ended = project.run(&["ami", "delete", &images[*i].id.0, "--yes"]);
                    prop_assert!([0, 2, 3].contains(&ended.code), "{}", ended.stderr);
                }
            }
            let there = project.data(&["ami", "list"])["images"].clone();
            let there: Vec<&str> = there.as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect();
            for channel in ["staging", "production"] {
                for (region, id) in points_at(&project, channel).as_object().unwrap() {
                    prop_assert!(there.contains(&id.as_str().unwrap()), "{channel} in {region} points at {id}: {action:?}");
                }
            }
        }
    }
}
