//! The main error of each kind as it is printed, so that a change of the language is seen in the diff.

use super::*;

/// Standard error of a command that ends with this code. The project's directory and process ids, which differ from run to run, are replaced.
fn printed(project: &Project, args: &[&str], code: i32) -> String {
    let ended = project.run(args);
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    let root = project.path("").display().to_string();
    let text = ended.stderr.replace(root.trim_end_matches('/'), "PROJECT");
    let changing = [
        (r"run-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", "RUN"),
        (r"process [0-9]+", "process PID"),
        (r"since [0-9-]+ [0-9:]+Z", "since TIME"),
        // Padded to a width, which a long time exceeds.
        (r" {2,}[0-9]+(\.[0-9])? s", "  0.0 s"),
    ];
    changing.iter().fold(text, |text, (pattern, name)| {
        regex_lite::Regex::new(pattern).unwrap().replace_all(&text, *name).into_owned()
    })
}

#[test]
fn usage_of_the_command_line() {
    insta::assert_snapshot!(printed(&Project::new(), &["ami", "promot"], 2));
}

#[test]
fn usage_of_ami_toml() {
    let project = Project::new();
    project.edit("ami.toml", "cpus = 2 ", "cpu = 2 ");
    project.edit("ami.toml", "acceleration = \"auto\"", "acceleration = \"kwm\"");
    insta::assert_snapshot!(printed(&project, &["ami", "list"], 2));
}

#[test]
fn usage_of_a_template() {
    let project = Project::new();
    project.edit("packer/locus-ami.pkr.hcl", "provisioner \"file\"", "provisioner \"ansible\"");
    insta::assert_snapshot!(printed(&project, &["ami", "plan"], 2));
}

#[test]
fn usage_of_a_smoke_spec() {
    let project = Project::new();
    project.edit("smoke/specs/locus-agent.toml", "emulated_factor", "emulated_factr");
    insta::assert_snapshot!(printed(&project, &["validate"], 2));
}

#[test]
fn usage_of_an_image_that_does_not_exist() {
    let project = Project::new();
    project.image("local-1", "20261121-0001");
    insta::assert_snapshot!(printed(&project, &["ami", "show", "ami-local-0000"], 2));
}

#[test]
fn precondition_of_a_confirmation() {
    let project = Project::new();
    let image = project.ready("20261121-0001");
    insta::assert_snapshot!(printed(&project, &["ami", "delete", &image.id.0], 3));
}

#[test]
fn precondition_of_a_lock() {
    let project = Project::new();
    let image = project.ready("20261121-0001");
    let state = State::open(project.path(".agent-ami")).unwrap();
    let _lock = state.lock("channel-staging", "cargo xtask ami promote").unwrap();
    insta::assert_snapshot!(printed(&project, &["ami", "promote", &image.id.0, "--yes"], 3));
}

#[test]
fn image_that_may_not_be_promoted() {
    let project = Project::new();
    let image = project.image("local-1", "20261121-0001");
    insta::assert_snapshot!(printed(&project, &["ami", "promote", &image.id.0, "--yes"], 1));
}

#[test]
fn failure_of_a_damaged_record() {
    let project = Project::new();
    let image = project.image("local-1", "20261121-0001");
    fs::write(project.path(&format!(".agent-ami/regions/local-1/{}/image.json", image.id)), "{").unwrap();
    // Where the lines break depends on the length of the project's path.
    let text = printed(&project, &["ami", "show", &image.id.0], 4);
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "│").collect();
    let place = regex_lite::Regex::new(r"\([^)]*regions[^)]*\)").unwrap();
    insta::assert_snapshot!(place.replace(&words.join(" "), "(DIRECTORY)"));
}
