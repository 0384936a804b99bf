//! The plan of a build whose template only Packer reads: its steps and its base are unknown. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::Facts;
use crate::cloud::{BaseRecord, Builder, EngineKind, Image, ImageId};
use crate::recipe::Digest;
use crate::template::unread::{Given, Unread};

/// What a build by Packer will do, as far as it is known before.
#[derive(Clone, Debug, Serialize)]
pub struct UnreadPlan {
    /// The name of the image in `ami.toml`.
    pub image: String,
    pub version: String,
    /// Packer.
    pub engine: EngineKind,
    /// Why: what the native engine refused first, with file and line.
    pub engine_reason: String,
    /// The builder, and why it was selected.
    pub builder: Option<Builder>,
    /// The source that Packer builds.
    pub source: String,
    /// `None`: the template selects its base while Packer evaluates it.
    pub base: Option<BaseRecord>,
    /// hash(files of the template, source, variables).
    pub recipe_hash: Digest,
    /// The existing image that was built from the same files and variables.
    pub up_to_date: Option<ImageId>,
    /// The variables with their values, as far as they are known, and origins.
    pub variables: Vec<Given>,
    /// `None`: the steps are unknown.
    pub steps: Option<Vec<super::PlannedStep>>,
}

/// Plans a build by Packer.
pub fn plan(image: &str, version: &str, unread: &Unread, facts: &Facts) -> UnreadPlan {
    let fits = |i: &&Image| i.recipe_hash == unread.hash && i.image == image && i.version == version;
    UnreadPlan {
        image: image.to_owned(),
        version: version.to_owned(),
        engine: EngineKind::Packer,
        engine_reason: unread.reason.clone(),
        builder: facts.builder.clone(),
        source: unread.source.clone(),
        base: None,
        recipe_hash: unread.hash,
        up_to_date: facts.images.iter().rev().find(fits).filter(|_| !facts.force).map(|i| i.id.clone()),
        variables: unread.variables.clone(),
        steps: None,
    }
}

/// The plan as text.
pub fn render(plan: &UnreadPlan) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "image    {} v{}", plan.image, plan.version);
    let _ = writeln!(text, "engine   {}: {}", plan.engine.name(), plan.engine_reason);
    let _ = writeln!(text, "source   {}", plan.source);
    let _ = writeln!(text, "base     unknown: only Packer evaluates the template");
    if let Some(Builder { kind, why }) = &plan.builder {
        let _ = writeln!(text, "builder  {}: {why}", kind.name());
    }
    let _ = writeln!(text, "recipe   {}", plan.recipe_hash.short());
    let _ = match &plan.up_to_date {
        Some(id) => writeln!(text, "up to date: {id}, built from the same files and variables"),
        None => writeln!(text, "the steps are unknown: Packer will run all of them"),
    };
    let _ = writeln!(text, "variables");
    let width = plan.variables.iter().map(|given| given.name.len()).max().unwrap_or(0);
    for Given { name, value, sensitive, origin } in &plan.variables {
        let value = match value {
            _ if *sensitive => "(sensitive)".to_owned(),
            Some(value) => value.to_string(),
            None => "(evaluated by Packer)".to_owned(),
        };
        let _ = writeln!(text, "  {name:width$} = {value}  ({origin})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Origin;

    fn unread() -> Unread {
        let given = |name: &str, value: Option<&str>, sensitive| Given {
            name: name.to_owned(),
            value: value.map(Into::into),
            sensitive,
            origin: "default".to_owned(),
        };
        Unread {
            origin: Origin { source: "git::file:///r".to_owned(), commit: None, digest: Digest::of(b"files") },
            reason: "t.pkr.hcl:12: no `ansible`".to_owned(),
            source: "qemu.x".to_owned(),
            attributes: Vec::new(),
            variables: vec![given("token", None, true), given("url", None, false), given("a", Some("b"), false)],
            hash: Digest::of(b"hash"),
        }
    }

    #[test]
    fn the_plan_names_the_engine_the_reason_and_what_is_unknown() {
        let plan = plan("tiny", "1.0.0", &unread(), &Facts::default());
        insta::assert_snapshot!(render(&plan), @r#"
        image    tiny v1.0.0
        engine   packer: t.pkr.hcl:12: no `ansible`
        source   qemu.x
        base     unknown: only Packer evaluates the template
        recipe   d04b98f48e8f
        the steps are unknown: Packer will run all of them
        variables
          token = (sensitive)  (default)
          url   = (evaluated by Packer)  (default)
          a     = "b"  (default)
        "#);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!((&json["steps"], &json["base"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    }

    #[test]
    fn an_image_of_the_same_files_and_variables_is_up_to_date() {
        let image = Image { recipe_hash: unread().hash, image: "tiny".to_owned(), base: None, ..Image::sample() };
        let facts = Facts { images: vec![image.clone()], ..Facts::default() };
        assert_eq!(plan("tiny", "1.0.0", &unread(), &facts).up_to_date, Some(image.id));
        assert_eq!(plan("tiny", "1.1.0", &unread(), &facts).up_to_date, None);
        assert_eq!(plan("other", "1.0.0", &unread(), &facts).up_to_date, None);
        assert_eq!(plan("tiny", "1.0.0", &unread(), &Facts { force: true, ..facts }).up_to_date, None);
    }
}
