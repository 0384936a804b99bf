//! Tests of the evaluation through the public API: precedence of variables, recipes of templates, errors and their locations.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use packer_template::error::plain;
use packer_template::recipe::{Action, Digest, Origin, Place, PostProcessor, Recipe, Script, Shell, Source, Step};
use packer_template::{Request, Setting, evaluate};
use proptest::prelude::*;

/// A request for a template with this file and the source `qemu.x`.
fn request(dir: &Path, hcl: &str) -> Request {
    fs::write(dir.join("t.pkr.hcl"), hcl).unwrap();
    Request {
        path: dir.to_owned(),
        source: "qemu.x".to_owned(),
        settings: vec![],
        vars: vec![],
        var_files: vec![],
        env: BTreeMap::new(),
        now: "2026-11-21T08:00:00Z".parse().unwrap(),
        root: dir.to_owned(),
        foreign: None,
    }
}

fn recipe(hcl: &str) -> Recipe {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.sh"), "echo a\n").unwrap();
    fs::write(dir.path().join("b.sh"), "echo b\n").unwrap();
    evaluate(&request(dir.path(), hcl)).unwrap_or_else(|e| panic!("{}", plain(&e)))
}

fn refusal(hcl: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    match evaluate(&request(dir.path(), hcl)) {
        Ok(recipe) => panic!("not refused: {recipe:#?}"),
        Err(error) => plain(&error),
    }
}

/// A build block around provisioners.
fn build(inner: &str) -> String {
    format!("source \"qemu\" \"x\" {{}}\nbuild {{\n  sources = [\"source.qemu.x\"]\n{inner}\n}}\n")
}

#[test]
fn timestamp_try_and_can_work_inside_strings() {
    let inline = r#"inline = ["at ${formatdate("YYYY", timestamp())}\\n${try(nothing.there, 7)}", "${can(nothing) ? "a" : "b"}", "~${upper("c")}"]"#;
    let recipe = recipe(&build(&format!("provisioner \"shell\" {{\n{inline}\n}}")));
    let Action::Shell(shell) = &recipe.steps[0].action else { panic!("{recipe:#?}") };
    let script = String::from_utf8(shell.scripts[0].content.clone()).unwrap();
    assert!(script.ends_with("at 2026\\n7\nb\n~C\n"), "{script:?}");
}

#[test]
fn variables_have_packers_order_of_precedence() {
    let dir = tempfile::tempdir().unwrap();
    let hcl = format!("variable \"v\" {{\n  type    = string\n  default = \"default\"\n}}\n{}", build(""));
    let mut request = request(dir.path(), &hcl);
    let value = |request: &Request| {
        let variable = evaluate(request).unwrap().variables.remove(0);
        (variable.value.as_str().unwrap().to_owned(), variable.origin)
    };
    let file = |name: &str, value: &str| fs::write(dir.path().join(name), format!("v = \"{value}\"\n")).unwrap();
    let is = |found: (String, String), value: &str, origin: &str| {
        assert_eq!((found.0.as_str(), found.1.as_str()), (value, origin));
    };
    is(value(&request), "default", "default");
    let setting = |name: &str, optional| Setting {
        name: name.to_owned(),
        value: "ami.toml".to_owned(),
        origin: "vars in ami.toml".to_owned(),
        optional,
    };
    request.settings = vec![setting("v", false), setting("not_declared", true)];
    is(value(&request), "ami.toml", "vars in ami.toml");
    request.env.insert("PKR_VAR_v".to_owned(), "environment".to_owned());
    is(value(&request), "environment", "PKR_VAR_v");
    file("b.auto.pkrvars.hcl", "auto b");
    file("a.auto.pkrvars.hcl", "auto a");
    is(value(&request), "auto b", "b.auto.pkrvars.hcl");
    file("one.pkrvars.hcl", "file one");
    file("two.pkrvars.hcl", "file two");
    request.var_files = vec!["two.pkrvars.hcl".into(), "one.pkrvars.hcl".into()];
    is(value(&request), "file one", "one.pkrvars.hcl");
    request.vars = vec![("v".to_owned(), "flag".to_owned()), ("v".to_owned(), "last flag".to_owned())];
    is(value(&request), "last flag", "--var");
}

#[test]
fn a_sensitive_value_is_used_but_not_returned() {
    let hcl = "variable \"token\" {\n  default   = \"s3cr3t\"\n  sensitive = true\n}\n".to_owned()
        + &build(
            "  provisioner \"shell\" {\n    inline           = [\"true\"]\n    environment_vars = [\"T=${var.token}\"]\n  }",
        );
    let recipe = recipe(&hcl);
    assert!(recipe.variables[0].value.is_null() && recipe.variables[0].sensitive);
    let Action::Shell(shell) = &recipe.steps[0].action else { panic!("not a shell step") };
    assert_eq!(shell.env, [("T".to_owned(), "s3cr3t".to_owned())]);
}

#[test]
fn provisioners_become_steps_with_all_attributes() {
    let recipe = recipe(&build(
        r#"
  provisioner "shell" {
    scripts           = ["a.sh", "b.sh"]
    env               = { B = "2" }
    execute_command   = "sudo {{ .Vars }} {{ .Path }}"
    expect_disconnect = true
    valid_exit_codes  = [0, 2]
    pause_before      = "5s"
    timeout           = "1m30s"
    max_retries       = 3
  }
  provisioner "shell" {
    only   = ["qemu.x"]
    inline = ["echo 1", "echo 2"]
  }
  provisioner "shell" {
    except = ["qemu.x"]
    inline = ["never"]
  }
  provisioner "file" {
    content     = "hello"
    destination = "/etc/motd"
  }
  provisioner "breakpoint" {
    disable = true
    note    = "look"
  }
  error-cleanup-provisioner "shell" {
    inline = ["journalctl -b"]
  }
  post-processor "checksum" {
    checksum_types = ["sha512"]
  }"#,
    ));
    let names: Vec<&str> = recipe.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a", "shell", "file motd", "breakpoint"]);
    let first = &recipe.steps[0];
    assert_eq!((first.pause_before.as_secs(), first.timeout.unwrap().as_secs(), first.max_retries), (5, 90, 3));
    let Action::Shell(shell) = &first.action else { panic!("not a shell step") };
    assert_eq!(shell.scripts.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a.sh", "b.sh"]);
    assert_eq!((shell.valid_exit_codes.as_slice(), shell.expect_disconnect), (&[0, 2][..], true));
    let Action::Shell(shell) = &recipe.steps[1].action else { panic!("not a shell step") };
    assert_eq!(shell.scripts[0].content, b"#!/bin/sh -e\necho 1\necho 2\n");
    assert!(recipe.on_error.is_some());
    assert!(matches!(&recipe.post[0], PostProcessor::Checksum { types, .. } if types == &["sha512"]));
}

/// As observed with Packer 1.16.0: `file` resolves paths from the template's directory, provisioners from the working directory.
#[test]
fn paths_are_resolved_as_in_packer() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("pins.json"), r#"{"v": "1"}"#).unwrap();
    fs::write(dir.path().join("a.sh"), "true\n").unwrap();
    let inner = "  provisioner \"shell\" {\n    script           = \"${path.root}/../a.sh\"\n    environment_vars = [\"V=${local.v}\"]\n  }";
    let with = |file: &str| {
        let hcl = format!("locals {{\n  v = jsondecode(file(\"{file}\")).v\n}}\n{}", build(inner));
        fs::write(dir.path().join("t/t.pkr.hcl"), hcl).unwrap();
        evaluate(&Request { path: dir.path().join("t"), ..request(dir.path(), "") })
    };
    let steps = with("../pins.json").unwrap_or_else(|e| panic!("{}", plain(&e))).steps;
    let Action::Shell(shell) = &steps[0].action else { panic!("not a shell step") };
    assert_eq!((shell.env[0].1.as_str(), shell.scripts[0].name.as_str()), ("1", "a.sh"));
    assert!(plain(&with("${path.root}/../pins.json").unwrap_err()).contains("t/t/../pins.json"));
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_line() {
    let long = |text: &str| build(&format!("  provisioner \"shell\" {{\n    inline = [\"x\"]\n    {text}\n  }}"));
    for (hcl, words) in [
        (build("  provisioner \"ansible\" {}"), &["t.pkr.hcl:4", "ansible", "shell-local"][..]),
        (build("  post-processor \"vagrant\" {}"), &["t.pkr.hcl:4", "vagrant", "manifest"]),
        (build("  hcp_packer_registry {}"), &["t.pkr.hcl:4", "hcp_packer_registry"]),
        (long("inlin = [\"y\"]"), &["t.pkr.hcl:6", "inlin", "inline"]),
        (long("remote_path = \"/x\""), &["t.pkr.hcl:6", "remote_path", "not supported"]),
        (long("script = \"a.sh\""), &["exactly one of"]),
        (long("timeout = \"soon\""), &["t.pkr.hcl:6", "soon"]),
        (long("max_retries = var.missing"), &["t.pkr.hcl:6", "missing"]),
        (long("environment_vars = [\"novalue\"]"), &["t.pkr.hcl:6", "novalue"]),
        (build("  provisioner \"shell\" {\n    script = \"nothing.sh\"\n  }"), &["t.pkr.hcl:5", "nothing.sh"]),
        (build("").replace("source.qemu.x", "source.qemu.y"), &["qemu.x"]),
        ("packer {\n  required_verson = \">= 1\"\n}\n".to_owned() + &build(""), &["t.pkr.hcl:2", "required_version"]),
        ("packer {\n  required_version = \">= 2.0.0\"\n}\n".to_owned() + &build(""), &["t.pkr.hcl:2", ">= 2.0.0"]),
        ("packer {\n  required_version = \"newest\"\n}\n".to_owned() + &build(""), &["t.pkr.hcl:2", "newest"]),
        ("variable \"n\" {\n  type = number\n}\n".to_owned() + &build(""), &["t.pkr.hcl:1", "`n` has no value"]),
        (
            "variable \"n\" {\n  type    = number\n  default = \"many\"\n}\n".to_owned() + &build(""),
            &["t.pkr.hcl:1", "`n`", "number"],
        ),
        ("locals {\n  a = local.b\n  b = local.a\n}\n".to_owned() + &build(""), &["t.pkr.hcl:2"]),
        (
            "locals {\n  a = cidrsubnet(\"10.0.0.0/8\", 8, 1)\n}\n".to_owned() + &build(""),
            &["t.pkr.hcl:2", "cidrsubnet"],
        ),
        ("source \"qemu\" \"x\" {".to_owned(), &["t.pkr.hcl:1"]),
    ] {
        let message = refusal(&hcl);
        for word in words {
            assert!(message.contains(word), "`{word}` is not in:\n{message}\nfor:\n{hcl}");
        }
    }
}

#[test]
fn the_projects_template_has_the_same_steps_for_both_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let steps = |source: &str, vars: &[(&str, &str)]| {
        let request = Request {
            path: root.join("packer"),
            source: source.to_owned(),
            settings: vec![],
            vars: vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            var_files: vec![],
            env: BTreeMap::new(),
            now: "2026-11-21T08:00:00Z".parse().unwrap(),
            root: root.to_owned(),
            foreign: None,
        };
        evaluate(&request).unwrap_or_else(|e| panic!("{}", plain(&e))).steps
    };
    let local = steps("qemu.locus", &[]);
    assert_eq!(local, steps("amazon-ebs.locus", &[]), "the steps that are tested locally differ from those on EC2");
    let names: Vec<&str> = local.iter().map(|s| s.name.as_str()).collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    shell
    file lib
    10-base
    20-git
    file node-24
    30-node
    file package.json
    file package-lock.json
    40-agents
    file requirements.txt
    42-aider
    45-pm2-boot
    file agent
    47-runtime
    50-sshd
    55-ufw
    60-fail2ban
    65-unattended-upgrades
    70-boot
    80-manifest
    90-cleanup
    ");
    // Node.js 20, the version of the original requirements, can still be selected.
    assert!(steps("qemu.locus", &[("node_version", "20")]).iter().any(|s| s.name == "file node-20"));
}

fn step(content: &str) -> Step {
    let shell = Shell {
        scripts: vec![Script { name: "s.sh".to_owned(), content: content.as_bytes().to_vec() }],
        env: vec![],
        execute_command: "{{ .Path }}".to_owned(),
        expect_disconnect: false,
        valid_exit_codes: vec![0],
    };
    Step {
        name: "s".to_owned(),
        place: Place { file: "t.pkr.hcl".into(), line: 1 },
        action: Action::Shell(shell),
        pause_before: std::time::Duration::ZERO,
        timeout: None,
        max_retries: 0,
    }
}

fn keys(contents: &[String]) -> Vec<Digest> {
    let source = Source { kind: "qemu".to_owned(), name: "x".to_owned(), settings: BTreeMap::new() };
    let steps = contents.iter().map(|c| step(c)).collect();
    let recipe =
        Recipe { origin: None, build_name: None, variables: vec![], source, steps, on_error: None, post: vec![] };
    recipe.layer_keys(Digest::of(b"base"))
}

#[test]
fn the_origin_changes_the_recipe_hash_and_no_layer_key() {
    let base = Digest::of(b"base");
    let origin = |source: &str, commit: &str, files: &[u8]| {
        Some(Origin { source: source.to_owned(), commit: Some(commit.to_owned()), digest: Digest::of(files) })
    };
    let own = recipe(&build("  provisioner \"shell\" {\n    script = \"a.sh\"\n  }"));
    assert_eq!(own.hash(base), *own.layer_keys(base).last().unwrap());
    let mut hashes = vec![own.hash(base)];
    for origin in [origin("a", "1", b"x"), origin("b", "1", b"x"), origin("a", "2", b"x"), origin("a", "1", b"y")] {
        let foreign = Recipe { origin, ..own.clone() };
        assert_eq!(foreign.layer_keys(base), own.layer_keys(base));
        assert!(!hashes.contains(&foreign.hash(base)), "{:?}", foreign.origin);
        hashes.push(foreign.hash(base));
    }
}

proptest! {
    /// A changed step and all later ones run again, but none before it. The same input always has the same keys.
    #[test]
    fn a_changed_step_changes_its_key_and_those_after_it(
        contents in prop::collection::vec("[a-z\n ]{0,12}", 1..8),
        at in any::<prop::sample::Index>(),
        other in "[A-Z]{1,4}",
    ) {
        let at = at.index(contents.len());
        let mut changed = contents.clone();
        changed[at] = other;
        let (before, after) = (keys(&contents), keys(&changed));
        prop_assert_eq!(&before, &keys(&contents));
        prop_assert_eq!(&before[..at], &after[..at]);
        prop_assert!(before[at..].iter().zip(&after[at..]).all(|(x, y)| x != y));
    }

    /// The boundary between two steps is part of the keys.
    #[test]
    fn moving_a_line_to_the_next_step_is_a_change(a in "[a-z]{1,5}", b in "[a-z]{1,5}") {
        let (left, right) = (keys(&[format!("{a}{b}"), String::new()]), keys(&[a, b]));
        prop_assert_ne!(left, right);
    }
}
