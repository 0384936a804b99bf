//! The command lines of the `xtask` processes that the server runs. Values that come from a request follow `--option=`, so that none is
//! taken for an option.

use xtask::ids::{ChannelName, RunId};
use xtask::template_source::TemplateSource;

use crate::accept::Accepted;

/// Builds an image under this run id. `template` is the template source.
pub fn build(request: &Accepted, template: &str, run: &RunId) -> Vec<String> {
    let mut words = of_build("build", request, template);
    words.push(format!("--supervised={run}"));
    words
}

/// Prints the plan of a build; fails if the request is not valid.
pub fn plan(request: &Accepted, template: &str) -> Vec<String> {
    of_build("plan", request, template)
}

fn of_build(verb: &str, request: &Accepted, template: &str) -> Vec<String> {
    let Accepted { image, provider, region, instance_type, variables, .. } = request;
    let mut words = vec!["ami".to_owned(), verb.to_owned(), image.clone()];
    words.push(format!("--template={template}"));
    // Packer lets a template run programs and read files of this machine. The native engine does not, and a build of the server is not confirmed.
    let is_ours = template.parse::<TemplateSource>().is_ok_and(|source| source.in_project().is_some());
    words.extend((!is_ours).then(|| "--engine=native".to_owned()));
    words.push(format!("--provider={provider}"));
    words.push(format!("--region={region}"));
    words.extend(instance_type.iter().map(|kind| format!("--instance-type={kind}")));
    words.extend(variables.iter().map(|(name, value)| format!("--var={name}={value}")));
    words
}

/// Resumes an interrupted run.
pub fn resume(run: &RunId) -> Vec<String> {
    vec!["ami".to_owned(), "resume".to_owned(), run.to_string(), format!("--supervised={run}")]
}

/// Deletes what an interrupted run left.
pub fn clean_up(run: &RunId) -> Vec<String> {
    vec!["ami".to_owned(), "gc".to_owned(), "--apply".to_owned(), format!("--run={run}")]
}

/// Lists the images of all regions, with their channels and smoke results.
pub fn list() -> Vec<String> {
    ["ami", "list", "--long"].map(str::to_owned).to_vec()
}

/// Shows an image with its smoke report.
pub fn show(image: &str) -> Vec<String> {
    vec!["ami".to_owned(), "show".to_owned(), "--".to_owned(), image.to_owned()]
}

/// Deletes an image.
pub fn delete(image: &str, force: bool) -> Vec<String> {
    let force = force.then(|| "--force".to_owned());
    let words = ["ami", "delete"].map(str::to_owned).into_iter().chain(force);
    words.chain(["--".to_owned(), image.to_owned()]).collect()
}

/// Points a channel at an image.
pub fn promote(image: &str, channel: &ChannelName) -> Vec<String> {
    vec!["ami".to_owned(), "promote".to_owned(), format!("--channel={channel}"), "--".to_owned(), image.to_owned()]
}

/// Points a channel back at its previous image.
pub fn rollback(channel: &ChannelName, reason: &str, image: Option<&str>) -> Vec<String> {
    let mut words = vec!["ami".to_owned(), "rollback".to_owned()];
    words.push(format!("--channel={channel}"));
    words.push(format!("--reason={reason}"));
    words.extend(image.map(|image| format!("--image={image}")));
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use xtask::cli::{Ami, Cli, Command, Engine};

    use super::*;
    use crate::accept::Template;

    fn parsed(words: Vec<String>) -> Ami {
        let words = std::iter::once("cargo xtask".to_owned()).chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Ami(ami) => ami,
            other => panic!("{other:?}"),
        }
    }

    fn run() -> RunId {
        "run-20261128-084010-e8eec9".into()
    }

    #[test]
    fn a_build_keeps_every_value_also_one_that_looks_like_an_option() {
        let request = Accepted {
            image: "default-ec2".to_owned(),
            provider: "codex".to_owned(),
            region: "local-1".into(),
            instance_type: Some("--force".to_owned()),
            template: Template::Source("builtin://default-ec2".to_owned()),
            variables: [("extra_packages".to_owned(), "--yes=a b".to_owned())].into(),
        };
        let Ami::Build(command) = parsed(build(&request, "builtin://default-ec2", &run())) else { panic!() };
        let build = command.build;
        assert_eq!(build.provider.as_deref(), Some("codex"));
        assert_eq!(build.instance_type.as_deref(), Some("--force"));
        assert_eq!(build.vars, [("extra_packages".to_owned(), "--yes=a b".to_owned())]);
        assert!(!build.force && build.engine == Engine::Auto);
        for foreign in ["git::file:///srv/inline//template.pkr.hcl?ref=main", "https://example.com/t.pkr.hcl"] {
            let Ami::Build(command) = parsed(super::build(&request, foreign, &run())) else { panic!() };
            assert_eq!(command.build.engine, Engine::Native, "{foreign}");
        }
        assert!(matches!(parsed(plan(&request, "x")), Ami::Plan(_)));
    }

    #[test]
    fn ids_and_reasons_are_never_options() {
        assert!(matches!(parsed(resume(&run())), Ami::Resume(args) if args.run == Some(run().to_string())));
        assert!(matches!(parsed(clean_up(&run())), Ami::Gc(args) if args.apply && args.runs == [run().to_string()]));
        assert!(
            matches!(parsed(delete("--force", false)), Ami::Delete(args) if args.image == "--force" && !args.force)
        );
        assert!(matches!(parsed(delete("ami-1", true)), Ami::Delete(args) if args.force));
        assert!(matches!(parsed(show("-x")), Ami::Show(args) if args.what == "-x"));
        assert!(matches!(parsed(list()), Ami::List(args) if args.long));
        let channel = ChannelName::from("staging");
        assert!(matches!(parsed(promote("-i", &channel)), Ami::Promote(args) if args.image.as_deref() == Some("-i")));
        let Ami::Rollback(args) = parsed(rollback(&channel, "--keep", Some("locus-agent"))) else { panic!() };
        assert!(args.reason == "--keep" && !args.keep && args.of.as_deref() == Some("locus-agent"));
    }
}
