//! Templates that the reader refuses: which refusals Packer may accept, and what is known of a template that is left to Packer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use packer_template::recipe::{Digest, Origin};
use packer_template::refusal::{Refusal, with_help};
use packer_template::unread::{self, Given, Unread};
use packer_template::{Foreign, Request, Setting, error, evaluate, outline, sensitive};

/// A request for a template from elsewhere with this file and the source `qemu.x`.
fn request(dir: &Path, hcl: &str) -> Request {
    fs::write(dir.join("t.pkr.hcl"), hcl).unwrap();
    let origin = Origin { source: "git::file:///r".to_owned(), commit: None, digest: Digest::of(hcl.as_bytes()) };
    Request {
        path: dir.to_owned(),
        source: "qemu.x".to_owned(),
        settings: vec![],
        vars: vec![],
        var_files: vec![],
        env: std::collections::BTreeMap::new(),
        now: "2026-11-21T08:00:00Z".parse().unwrap(),
        root: dir.to_owned(),
        foreign: Some(Foreign { origin, tree: dir.to_owned() }),
    }
}

fn build(before: &str, inner: &str) -> String {
    format!("{before}\nsource \"qemu\" \"x\" {{}}\nbuild {{\n  sources = [\"source.qemu.x\"]\n{inner}\n}}\n")
}

fn refused(hcl: &str) -> Option<Refusal> {
    let dir = tempfile::tempdir().unwrap();
    Refusal::of(&evaluate(&request(dir.path(), hcl)).unwrap_err())
}

#[test]
fn a_refusal_names_its_line_and_whether_packer_may_accept_it() {
    let provisioner = |text: &str| build("", text);
    let variable = |text: &str| build(text, "");
    let inline = |text: &str| provisioner(&format!("provisioner \"shell\" {{\n  inline = [{text}]\n}}"));
    let rows = [
        provisioner("provisioner \"ansible\" {}"),
        provisioner("provisioner \"shell\" {\n  skip_clean = true\n  inline = []\n}"),
        provisioner("post-processor \"vagrant\" {}"),
        provisioner("hcp_packer_registry {}"),
        provisioner("source \"qemu.y\" {\n  name = \"z\"\n}"),
        inline("rsadecrypt(\"a\", \"b\")"),
        inline("build.ID"),
        inline("data.http.x.body"),
        variable("variables {\n  a = 1\n}"),
        variable("packer {\n  required_version = \"> 99.0.0\"\n}"),
        provisioner("provisioner \"shell-local\" {\n  inline = [\"true\"]\n}"),
        provisioner("provisioner \"shell\" {\n  script = \"/etc/hostname\"\n}"),
        inline("file(\"/etc/hostname\")"),
        inline("var.none"),
        inline("nothing"),
        variable("variable \"a\" {\n  type = string\n}"),
        variable("variable \"a\" {\n  type = number\n  default = \"x\"\n}"),
        variable("variable {"),
        provisioner("provisioner \"shell\" {}"),
    ];
    let rows = rows.map(|hcl| match refused(&hcl) {
        Some(Refusal { cause, text }) => format!("{cause:?} {}", text.split(" /").next().unwrap_or_default()),
        None => "no location".to_owned(),
    });
    insta::assert_snapshot!(rows.join("\n"), @"
    Unsupported t.pkr.hcl:5: the native engine does not support the provisioner `ansible`
    Unsupported t.pkr.hcl:6: Packer's `skip_clean` is not supported
    Unsupported t.pkr.hcl:5: the native engine does not support the post-processor `vagrant`
    Unsupported t.pkr.hcl:5: the native engine does not support the block `hcp_packer_registry`
    Unsupported t.pkr.hcl:5: settings in the source block of a build are not supported
    Unsupported t.pkr.hcl:6: the native engine does not support the function `rsadecrypt`
    Unsupported t.pkr.hcl:6: `build` is defined only while Packer runs
    Unsupported t.pkr.hcl:6: data sources cannot be evaluated: they need an AWS account
    Unsupported t.pkr.hcl:1: the native engine does not support the block `variables`
    Unsupported t.pkr.hcl:2: the template requires Packer > 99.0.0, but xtask implements 1.16.0
    Forbidden t.pkr.hcl:5: `shell-local` in a template that is not part of the project would run on this host
    Forbidden t.pkr.hcl:6:
    Forbidden t.pkr.hcl:6: error calling function `file`:
    Invalid t.pkr.hcl:6: unknown name `none`
    Invalid t.pkr.hcl:6: unknown name `nothing`
    Invalid t.pkr.hcl:1: variable `a` has no value
    Invalid t.pkr.hcl:1: variable `a` must be a number (set by default)
    Invalid t.pkr.hcl:6: invalid HCL: invalid block body; expected `}`, newline or identifier
    Invalid t.pkr.hcl:5: not exactly one of `inline`, `script` and `scripts`
    ");
}

#[test]
fn a_hint_precedes_the_hint_of_the_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let refused = evaluate(&request(dir.path(), &build("", "provisioner \"shel\" {}"))).unwrap_err();
    let text = error::plain(&with_help(refused, "install Packer"));
    assert!(text.contains("t.pkr.hcl:5") && text.contains("install Packer"), "{text}");
    assert!(text.contains("did you mean `shell`?"), "{text}");
}

const DECLARED: &str = r#"
variable "provider" {
  default = "codex"
}
variable "token" {
  sensitive = true
}
variable "computed" {
  default = rsadecrypt("a", "b")
}
variables {
  short = 4
}
"#;

fn known(change: impl FnOnce(&mut Request)) -> error::Result<Unread> {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(dir.path(), &build(DECLARED, ""));
    fs::write(dir.path().join("a.auto.pkrvars.json"), r#"{"short": 5}"#).unwrap();
    fs::write(dir.path().join("mine.pkrvars.hcl"), "provider = \"gemini\"\n").unwrap();
    request.env.insert("PKR_VAR_token".to_owned(), "TOKEN-of-the-environment".to_owned());
    change(&mut request);
    Ok(unread::unread(&request, "why")?.unwrap())
}

#[test]
fn the_variables_of_an_unread_template_are_known_as_far_as_no_expression_is_evaluated() {
    let unread = known(|_| {}).unwrap();
    let show = |Given { name, value, sensitive, origin }: &Given| format!("{name} {value:?} {sensitive} {origin}");
    let rows: Vec<String> = unread.variables.iter().map(show).collect();
    insta::assert_snapshot!(rows.join("\n"), @r#"
    provider Some(String("codex")) false default
    token None true PKR_VAR_token
    computed None false default
    short Some(Number(5)) false a.auto.pkrvars.json
    "#);
    assert_eq!((unread.text("provider"), unread.text("token")), (Some("codex"), None));
    assert_eq!(sensitive::redacted("a TOKEN-of-the-environment b"), "a <sensitive> b");
    assert!(unread.declares("short") && !unread.declares("other"));
}

#[test]
fn the_hash_of_an_unread_template_depends_on_every_value() {
    let hash = |change: fn(&mut Request)| known(change).unwrap().hash;
    let same = hash(|_| {});
    assert_eq!(same, hash(|_| {}));
    let others = [
        hash(|request| request.vars.push(("provider".to_owned(), "x".to_owned()))),
        hash(|request| request.vars.push(("token".to_owned(), "other".to_owned()))),
        hash(|request| request.var_files.push("mine.pkrvars.hcl".into())),
        hash(|request| request.foreign.as_mut().unwrap().origin.digest = Digest::of(b"other")),
    ];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(same, *other, "{i}");
        assert_eq!(others.iter().filter(|o| *o == other).count(), 1, "{i}");
    }
}

#[test]
fn values_that_packer_refuses_as_well_are_errors() {
    let error = known(|request| drop(request.env.remove("PKR_VAR_token"))).unwrap_err();
    assert!(error.to_string().contains("t.pkr.hcl:5: variable `token` has no value"), "{error}");
    let error = known(|request| request.vars.push(("tokn".to_owned(), "x".to_owned()))).unwrap_err();
    assert!(error.to_string().contains("does not declare the variable `tokn`"), "{error}");
    let setting = |optional| Setting {
        name: "none".to_owned(),
        value: "x".to_owned(),
        origin: "vars in ami.toml".to_owned(),
        optional,
    };
    assert!(known(|request| request.settings.push(setting(true))).is_ok());
    assert!(known(|request| request.settings.push(setting(false))).is_err());
}

#[test]
fn an_outline_has_the_literal_attributes_of_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let hcl = "source \"qemu\" \"x\" {\n  efi_boot = true\n  iso_url = var.url\n}\nunknown {}\n";
    let request = request(dir.path(), hcl);
    let outline = outline::outline(&request.path, &request.root).unwrap();
    let attributes = &outline.sources[0].attributes;
    assert_eq!((outline.sources[0].name.as_str(), attributes[0].place.line), ("qemu.x", 2));
    assert_eq!((&attributes[0].literal, &attributes[1].literal), (&Some(true.into()), &None));
}

#[test]
fn a_build_block_can_override_the_name_and_the_attributes_of_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let inner = "  source \"source.qemu.x\" {\n    name = \"other\"\n    output_directory = \"out\"\n  }";
    let hcl = "source \"qemu\" \"x\" {\n  output_directory = \"/srv\"\n  format = \"raw\"\n}\n";
    let request = request(dir.path(), &format!("{hcl}build {{\n{inner}\n}}\n"));
    let built = unread::unread(&request, "why").unwrap().unwrap();
    let attributes: Vec<_> = built.attributes.iter().map(|a| (a.name.as_str(), a.literal.clone().unwrap())).collect();
    assert_eq!(built.source, "qemu.other");
    assert_eq!(attributes, [("format", "raw".into()), ("name", "other".into()), ("output_directory", "out".into())]);
    // By its other name.
    let named = Request { source: "qemu.other".to_owned(), ..request.clone() };
    assert!(Refusal::of(&evaluate(&named).unwrap_err()).unwrap().text.contains("settings in the source block"));
    assert_eq!(unread::unread(&named, "why").unwrap().unwrap().source, "qemu.other");
    let twice = format!("{hcl}build {{\n{inner}\n{}\n}}\n", inner.replace("other", "third"));
    fs::write(dir.path().join("t.pkr.hcl"), twice).unwrap();
    let error = unread::unread(&request, "why").unwrap_err();
    assert!(error.to_string().contains("several names: qemu.other, qemu.third"), "{error}");
    assert_eq!(unread::unread(&named, "why").unwrap().unwrap().source, "qemu.other");
    let none = Request { source: "qemu.none".to_owned(), ..request };
    let error = unread::unread(&none, "why").unwrap_err();
    assert!(error.to_string().contains("does not declare the source qemu.none"), "{error}");
}

#[test]
fn a_template_in_json_is_refused_and_variables_in_json_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(dir.path(), &build("variable \"a\" {\n  default = 1\n}", ""));
    fs::write(dir.path().join("x.auto.pkrvars.json"), r#"{"a": [1, "b"]}"#).unwrap();
    let recipe = evaluate(&request).unwrap();
    assert_eq!(
        (&recipe.variables[0].value, recipe.variables[0].origin.as_str()),
        (&serde_json::json!([1, "b"]), "x.auto.pkrvars.json")
    );
    fs::write(dir.path().join("other.json"), r#"{"b": 1}"#).unwrap();
    request.var_files.push("other.json".into());
    assert!(evaluate(&request).unwrap_err().to_string().contains("does not declare the variable `b`"));
    fs::write(dir.path().join("t.pkr.json"), "{}").unwrap();
    assert!(evaluate(&request).unwrap_err().to_string().contains("t.pkr.json is a template in JSON"));
}
