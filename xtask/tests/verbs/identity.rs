//! Two images in one channel, and the parameter of earlier versions that all images of a channel share.

use std::fs;

use serde_json::Value;
use xtask::cloud::Image;
use xtask::recipe::Digest;

use crate::project::Project;

/// A project with a second image.
fn project() -> Project {
    let project = Project::new();
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/locus/ami\"");
    let tiny = "[images.tiny]\ntemplate = \"packer\"\nversion = \"1.0.0\"\nsmoke = \"smoke/specs/locus-agent.toml\"\n\
                env_variable = \"TINY_AMI_ID\"\nsource_local = \"qemu.locus\"\n\n[regions]";
    project.edit("ami.toml", "[regions]", tiny);
    project
}

/// Adds an image `tiny` to all regions; returns the one in the home region.
fn tiny(project: &Project, content: &str) -> Image {
    let like = project.image("local-1", content);
    let id = format!("ami-local-{}", Digest::of(format!("tiny{content}").as_bytes()).short());
    let image = Image {
        id: xtask::cloud::ImageId(id),
        image: "tiny".to_owned(),
        name: like.name.replace("locus-agent", "tiny"),
        ..like.clone()
    };
    let dir = |id: &str| project.path(&format!(".agent-ami/regions/local-1/{id}"));
    fs::rename(dir(&like.id.0), dir(&image.id.0)).unwrap();
    fs::write(dir(&image.id.0).join("image.json"), serde_json::to_string(&image).unwrap()).unwrap();
    project.mark_smoke_passed(&image);
    project.run(&["ami", "copy", &image.id.0]).assert_exit(0, &[]);
    image
}

fn home(project: &Project, of: &str) -> Value {
    project.data(&["ami", "history", "--channel", "staging", "--image", of])["now"]["local-1"].clone()
}

#[test]
fn two_images_in_one_channel_do_not_touch_each_other() {
    let project = project();
    let (old, agent) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let (first, second) = (tiny(&project, "20261121-0003"), tiny(&project, "20261121-0004"));
    for image in [&old, &first, &agent, &second] {
        project.run(&["ami", "promote", &image.id.0, "--yes"]).assert_exit(0, &["read back"]);
    }
    assert_eq!(
        (home(&project, "locus-agent"), home(&project, "tiny")),
        (agent.id.0.clone().into(), second.id.0.clone().into())
    );
    let env = fs::read_to_string(project.path("channels/staging.env")).unwrap();
    assert!(
        env.contains(&format!("\nTINY_AMI_ID={}\n", second.id))
            && env.contains(&format!("LOCUS_AMI_ID={}\n", agent.id)),
        "{env}"
    );

    // Without a default image the name is required.
    project.edit("ami.toml", "default = true", "default = false");
    project.run(&["ami", "history", "--channel", "staging"]).assert_exit(2, &["no image given", "locus-agent, tiny"]);
    let back = ["ami", "rollback", "--channel", "staging", "--reason", "x", "--yes"];
    project.run(&back).assert_exit(2, &["no image given"]);
    project.run(&[&back[..], &["--image", "tiny"]].concat()).assert_exit(0, &[&first.name]);
    assert_eq!(
        (home(&project, "locus-agent"), home(&project, "tiny")),
        (agent.id.0.clone().into(), first.id.0.clone().into())
    );
    let from = ["ami", "promote", "--from", "staging", "--channel", "production", "--override", "x", "--yes"];
    project.run(&from).assert_exit(2, &["no image given"]);
    project.run(&[&from[..], &["--image", "locus-agent"]].concat()).assert_exit(0, &[]);
    assert!(!fs::read_to_string(project.path("channels/production.env")).unwrap().contains("TINY"));
}

#[test]
fn a_newer_image_of_another_name_does_not_replace_an_image() {
    let project = project();
    project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
    project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
    let agent = project.ready("20261121-0001");
    // Promoted, then removed from the env file and the parameters by hand: only the history shows that it was in use.
    project.run(&["ami", "promote", &agent.id.0, "--yes"]).assert_exit(0, &[]);
    project.run(&["ami", "promote", &tiny(&project, "20261121-0002").id.0, "--yes"]).assert_exit(0, &[]);
    project.ready("20261121-0003");
    for region in ["local-1", "local-2"] {
        let file = format!(".agent-ami/parameters/{region}/locus%2Fami%2Flocus-agent%2Fstaging.json");
        fs::remove_file(project.path(&file)).unwrap();
    }
    fs::remove_file(project.path("channels/staging.env")).unwrap();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let of = |name: &str| plan.as_array().unwrap().iter().find(|d| d["of"] == name).unwrap()["reason"].clone();
    assert_eq!(of(&agent.name), "no image has replaced it");
}

#[test]
fn the_shared_parameter_of_earlier_versions_is_read_and_updated() {
    let project = project();
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let shared = |region: &str| project.path(&format!(".agent-ami/parameters/{region}/locus%2Fami%2Fstaging.json"));
    let copy = |image: &Image, region: &str| {
        let images = project.data(&["ami", "list"])["images"].clone();
        let found =
            images.as_array().unwrap().iter().find(|i| i["name"] == image.name && i["region"] == region).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    for region in ["local-1", "local-2"] {
        fs::create_dir_all(shared(region).parent().unwrap()).unwrap();
        let text = serde_json::json!({ "value": copy(&old, region), "version": 7 }).to_string();
        fs::write(shared(region), text).unwrap();
    }
    assert_eq!(home(&project, "locus-agent"), old.id.0.as_str());
    assert_eq!(home(&project, "tiny"), Value::Null, "the shared parameter has another image");
    project
        .run(&["ami", "promote", &new.id.0, "--yes"])
        .assert_exit(0, &["/locus/ami/staging", "/locus/ami/locus-agent/staging"]);
    for region in ["local-1", "local-2"] {
        let now: Value = serde_json::from_slice(&fs::read(shared(region)).unwrap()).unwrap();
        assert_eq!((&now["value"], &now["version"]), (&copy(&new, region).into(), &8.into()));
    }
    // A promotion of another image neither changes nor creates it.
    project.run(&["ami", "promote", &tiny(&project, "20261121-0003").id.0, "--yes"]).assert_exit(0, &[]);
    let now: Value = serde_json::from_slice(&fs::read(shared("local-1")).unwrap()).unwrap();
    assert_eq!(now["value"], new.id.0.as_str());
}

#[test]
fn images_with_the_same_variable_or_parameter_are_an_error() {
    let project = project();
    project.edit("ami.toml", "env_variable = \"TINY_AMI_ID\"", "env_variable = \"LOCUS_AMI_ID_TINY\"");
    project.run(&["ami", "list"]).assert_exit(2, &["share a variable", "`locus-agent` and `tiny`"]);
    project.edit("ami.toml", "env_variable = \"LOCUS_AMI_ID_TINY\"\n", "");
    project.run(&["ami", "list"]).assert_exit(2, &["share a variable"]);
    project.edit("ami.toml", "[images.tiny]", "[images.versions]\nenv_variable = \"V_AMI_ID\"");
    project.run(&["ami", "list"]).assert_exit(2, &["`versions` cannot be the name of an image"]);
}

#[test]
fn at_most_one_image_is_the_default() {
    let project = project();
    project.run(&["ami", "history", "--channel", "staging"]).assert_exit(0, &[]);
    project.edit("ami.toml", "[images.tiny]", "[images.tiny]\ndefault = true");
    project.run(&["ami", "list"]).assert_exit(2, &["images `locus-agent` and `tiny` are both the default"]);
}
