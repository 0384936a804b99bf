//! Requests in both forms: what is queued for them, and what is refused.

use serde_json::json;
use xtask::template_source::TemplateSource;

use super::*;

const COMMIT: &str = "git::https://example.com/org/images.git//templates/web?ref=v1";
const ARCHIVE: &str =
    "https://example.com/t.pkr.hcl?checksum=sha256:0000000000000000000000000000000000000000000000000000000000000001";

fn allowed() -> Allowed {
    let source = |text: &str| text.parse::<TemplateSource>().unwrap();
    Allowed {
        regions: vec!["local-1".into(), "local-2".into()],
        instance_types: vec!["t3.large".to_owned()],
        templates: vec![
            (source("builtin://default-ec2"), "default-ec2".to_owned()),
            (source(COMMIT), "web".to_owned()),
            (source(ARCHIVE), "web".to_owned()),
        ],
        image: Some("default-ec2".to_owned()),
        variables: ["node_version".to_owned(), "extra_packages".to_owned()].into(),
        file_sources: false,
        inline_sources: false,
    }
}

fn open() -> Allowed {
    Allowed { file_sources: true, inline_sources: true, ..allowed() }
}

#[track_caller]
fn refused(value: serde_json::Value, allowed: &Allowed, why: &str) {
    let problem = body(value, allowed).unwrap_err();
    assert_eq!(problem.status.as_u16(), 422);
    assert!(problem.detail.contains(why), "{}", problem.detail);
}

#[test]
fn only_the_provider_is_required() {
    let accepted = body(json!({ "provider": "claude-code" }), &allowed()).unwrap();
    let expected = Accepted {
        image: "default-ec2".to_owned(),
        provider: "claude-code".to_owned(),
        region: "local-1".into(),
        instance_type: None,
        template: Template::Source("builtin://default-ec2".to_owned()),
        variables: BTreeMap::new(),
    };
    assert_eq!(accepted, expected);
    let all = json!({
        "provider": "codex", "region": "local-2", "instance_type": "t3.large", "template_source": COMMIT,
        "variables": { "node_version": "22" },
    });
    let accepted = body(all, &allowed()).unwrap();
    assert_eq!((accepted.image.as_str(), accepted.region.as_str()), ("web", "local-2"));
    let absent = json!({ "provider": "codex", "region": null, "instance_type": null, "template_source": null, "variables": null });
    assert!(body(absent, &allowed()).is_ok());
}

#[test]
fn what_is_not_allowed_is_refused_by_the_name_of_the_field() {
    let allowed = allowed();
    for (value, why) in [
        (json!({ "provider": "" }), "`provider`"),
        (json!({ "provider": "--force" }), "`provider`: `--force` is not"),
        (json!({ "provider": 1 }), "not a build request"),
        (json!({ "provider": "codex", "region": "us-east-1" }), "the regions are: local-1, local-2"),
        (json!({ "provider": "codex", "instance_type": "p5.48xlarge" }), "`instance_type`"),
        (json!({ "provider": "codex", "variables": { "base_ami": "ami-1" } }), "`variables.base_ami` is not allowed"),
        (json!({ "provider": "codex", "variables": { "node_version": 22 } }), "not a build request"),
        (json!({ "provider": "codex", "variables": { "node_version": "x".repeat(5000) } }), "longer than 4096"),
        (json!({ "provider": "codex", "variables": { "node_version": "\u{0}" } }), "NUL"),
        (json!({ "provider": "codex", "force": true }), "unknown field `force`"),
        (
            json!({ "provider": "codex", "template": { "type": "builtin", "name": "default-ec2" } }),
            "unknown field `template`",
        ),
        (json!({ "provider": "codex", "template_source": "packer" }), "paths are not allowed"),
        (json!({ "provider": "codex", "template_source": "/etc" }), "paths are not allowed"),
        (json!({ "provider": "codex", "template_source": "builtin://other" }), "`template_source`"),
        (json!({ "provider": "codex", "template_source": "https://example.com/other.pkr.hcl" }), "requires ?checksum"),
        (
            json!({ "provider": "codex", "template_source": "git::https://example.com/org/images.git//templates/web?ref=v2" }),
            "is not allowed; the templates are",
        ),
        (json!({ "provider": "codex", "template_source": "git::ext::sh -c id" }), "`template_source`"),
        (json!([]), "not a build request"),
        (json!("x"), "not a build request"),
        (json!(null), "not a build request"),
    ] {
        refused(value, &allowed, why);
    }
    refused(json!({ "provider": "codex", "template_source": "../x" }), &open(), "not a path in the project");
    refused(json!({ "provider": "codex", "template_source": "/etc/x" }), &open(), "not a path in the project");
    let none = Allowed { instance_types: Vec::new(), ..allowed };
    refused(json!({ "provider": "codex", "instance_type": "t3.large" }), &none, "only to images on EC2");
}

#[test]
fn the_requests_of_the_ciab_client_are_accepted() {
    let source = |template: serde_json::Value| {
        let accepted = body(json!({ "template": template, "agent_provider": "gemini" }), &open()).unwrap();
        assert_eq!(accepted.provider, "gemini");
        accepted.template
    };
    let is = |text: &str| Template::Source(text.to_owned());
    assert_eq!(source(json!({ "type": "builtin", "name": "default-ec2" })), is("builtin://default-ec2"));
    assert_eq!(source(json!({ "type": "url", "url": ARCHIVE })), is(ARCHIVE));
    assert_eq!(source(json!({ "type": "file_path", "path": "packer" })), is("packer"));
    assert_eq!(source(json!({ "type": "inline", "content": "x" })), Template::Inline("x".to_owned()));
    let git =
        json!({ "type": "git", "url": "https://example.com/org/images.git", "path": "templates/web", "ref": "v1" });
    assert_eq!(source(git), is(COMMIT));
    // The client splits `https://example.com/…//templates/web` at the first `//`.
    let split =
        json!({ "type": "git", "url": "https:", "path": "example.com/org/images.git//templates/web", "ref": "v1" });
    assert_eq!(source(split), is(COMMIT));
    // `ciab image build` without options.
    let bare = body(json!({}), &allowed()).unwrap();
    assert_eq!((bare.provider.as_str(), bare.image.as_str()), ("claude-code", "default-ec2"));
    let tags = body(json!({ "agent_provider": "codex", "tags": {}, "variables": {} }), &allowed());
    assert!(tags.is_ok());
}

#[test]
fn a_ciab_request_is_as_limited_as_a_documented_one() {
    let allowed = allowed();
    for (value, why) in [
        (json!({ "tags": { "team": "x" } }), "`tags.team`"),
        (json!({ "template": { "type": "file_path", "path": "packer" } }), "paths are not allowed"),
        (json!({ "template": { "type": "inline", "content": "x" } }), "inline templates are not allowed"),
        (json!({ "template": { "type": "url", "url": "https://example.com/x.pkr.hcl" } }), "requires ?checksum"),
        (json!({ "template": { "type": "git", "url": "ext::sh -c id", "path": "." } }), "`template`"),
        (json!({ "template": { "type": "git", "url": "https://example.com/x?ref=a", "path": "." } }), "question mark"),
        (json!({ "template": { "type": "git", "url": "--upload-pack=id", "path": "." } }), "`template`"),
        (json!({ "template": { "type": "ftp" } }), "not a build request"),
        (json!({ "template": { "type": "builtin", "name": "../x" } }), "`template`"),
        (json!({ "agent_provider": "" }), "`agent_provider`"),
        (json!({ "region": "local-1" }), "unknown field `region`"),
    ] {
        refused(value, &allowed, why);
    }
}

#[test]
fn a_queued_request_can_be_read_again() {
    let accepted = body(json!({ "template": { "type": "inline", "content": "a\nb" } }), &open()).unwrap();
    let text = serde_json::to_string(&accepted).unwrap();
    assert_eq!(serde_json::from_str::<Accepted>(&text).unwrap(), accepted);
    assert_eq!(accepted.template.shown(), "inline");
}
