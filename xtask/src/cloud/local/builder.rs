//! What a recipe is built in on this machine: a virtual machine or a container. The choice is a pure function of what is asked for,
//! what works here and what the recipe does.

use fs_err as fs;
use serde::{Serialize, de::DeserializeOwned};

use super::super::{Builder, BuilderKind};
use super::Local;
use super::container::probe::{self, Obstacle};
use super::qemu::{self, Acceleration, ProbeResult};
use crate::error::{Exit, Result, plain};
use crate::recipe::{Action, Recipe};

/// What the choice depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// The builder that was asked for, or `None` for the fastest that works.
    pub(super) wanted: Option<BuilderKind>,
    /// What accelerates virtual machines, and why it is that.
    pub(super) acceleration: (Acceleration, &'a str),
    /// Why no container can be started here, if that is so.
    pub(super) obstacle: Option<&'a Obstacle>,
    /// What the recipe does that a container cannot do.
    pub(super) beyond: Option<&'a str>,
}

/// What a recipe does that a container cannot do: the first such step, by name and line.
pub(super) fn beyond_a_container(recipe: &Recipe, engine: &str) -> Option<String> {
    if engine == "packer" {
        return Some("Packer starts a virtual machine of its own".to_owned());
    }
    let restarts = |action: &Action| matches!(action, Action::Shell(shell) if shell.expect_disconnect);
    let step = recipe.steps.iter().find(|step| restarts(&step.action))?;
    let place = format!("{}:{}", step.place.file.display(), step.place.line);
    Some(format!("step {} restarts the machine ({place}: expect_disconnect)", step.name))
}

/// Chooses.
pub(super) fn choose(facts: &Facts<'_>) -> Result<Builder> {
    let builder = |kind, why: String| Ok(Builder { kind, why });
    let (acceleration, why) = facts.acceleration;
    let emulated = acceleration == Acceleration::Tcg;
    match (facts.wanted, facts.beyond, facts.obstacle) {
        (Some(BuilderKind::Container), None, Some(Obstacle { what, remedy })) => {
            Err(Exit::Precondition.error(format_args!("a container cannot be started here: {what}"), remedy))
        }
        (Some(BuilderKind::Container), None, None) => builder(BuilderKind::Container, "asked for".to_owned()),
        (Some(BuilderKind::Container), Some(beyond), _) => {
            builder(BuilderKind::Vm, format!("instead of the container that was asked for: {beyond}"))
        }
        (Some(_), ..) => builder(BuilderKind::Vm, "asked for".to_owned()),
        (None, ..) if !emulated => {
            builder(BuilderKind::Vm, format!("{} accelerates it", acceleration.name().to_uppercase()))
        }
        (None, Some(beyond), _) => builder(BuilderKind::Vm, format!("{beyond}, which a container cannot do")),
        (None, None, None) => builder(BuilderKind::Container, format!("virtual machines are emulated here ({why})")),
        (None, None, Some(Obstacle { what, remedy })) => {
            builder(BuilderKind::Vm, format!("emulated ({why}); a container would be faster, but {what}; {remedy}"))
        }
    }
}

impl Local {
    /// What accelerates machines here; found once and remembered.
    pub fn acceleration(&self) -> Result<ProbeResult> {
        let wanted = self.settings.acceleration;
        self.remembered("acceleration.json", |known| qemu::probe(wanted, known), |_| wanted.is_none())
    }

    /// Whether containers can be started here; found once and remembered.
    pub fn containers(&self) -> Result<probe::ProbeResult> {
        self.remembered("containers.json", probe::probe, |result| !result.host.is_empty())
    }

    /// What `find` finds, given what it found the last time; kept in a file of the state folder if it is `lasting`.
    fn remembered<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        file: &str,
        find: impl FnOnce(Option<&T>) -> Result<T>,
        lasting: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let path = self.state.path(file);
        let known: Option<T> = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
        let found = find(known.as_ref())?;
        if lasting(&found) && known.as_ref() != Some(&found) {
            fs::write(path, serde_json::to_vec_pretty(&found).unwrap_or_default())?;
        }
        Ok(found)
    }

    /// What this machine builds in, if the recipe does nothing that asks for another one (`beyond` says what).
    pub fn builder_here(&self, beyond: Option<&str>) -> Result<Builder> {
        let wanted = self.settings.builder;
        let acceleration = match self.acceleration() {
            // A plan needs no QEMU; a build meets the same error where it needs it.
            Err(error) if error.exit() == Exit::Precondition && wanted != Some(BuilderKind::Container) => {
                return Ok(Builder { kind: BuilderKind::Vm, why: plain(&error) });
            }
            acceleration => acceleration?,
        };
        // A container is out of the question where a virtual machine is as fast, or asked for.
        let useful = wanted.unwrap_or(BuilderKind::Container) == BuilderKind::Container
            && (wanted.is_some() || acceleration.acceleration == Acceleration::Tcg);
        let obstacle = if useful { self.containers()?.obstacle } else { None };
        choose(&Facts {
            wanted,
            acceleration: (acceleration.acceleration, &acceleration.why),
            obstacle: obstacle.as_ref(),
            beyond,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_and_its_reason() {
        let obstacle =
            Obstacle { what: "containers need root".to_owned(), remedy: "run the command as root".to_owned() };
        let show = |wanted, acceleration, obstacle: Option<&Obstacle>, beyond: Option<&str>| {
            let facts = Facts { wanted, acceleration: (acceleration, "kvm does not work"), obstacle, beyond };
            match choose(&facts) {
                Ok(builder) => format!("{}: {}", builder.kind.name(), builder.why),
                Err(error) => format!("error: {error}"),
            }
        };
        let (vm, container) = (Some(BuilderKind::Vm), Some(BuilderKind::Container));
        let reboot = Some("step reboot restarts the machine (build.pkr.hcl:7: expect_disconnect)");
        let rows = [
            show(None, Acceleration::Kvm, None, None),
            show(None, Acceleration::Tcg, None, None),
            show(None, Acceleration::Tcg, Some(&obstacle), None),
            show(None, Acceleration::Tcg, None, reboot),
            show(vm, Acceleration::Tcg, None, None),
            show(container, Acceleration::Kvm, None, None),
            show(container, Acceleration::Kvm, None, reboot),
            show(container, Acceleration::Kvm, Some(&obstacle), None),
        ];
        insta::assert_snapshot!(rows.join("\n"), @"
        vm: KVM accelerates it
        container: virtual machines are emulated here (kvm does not work)
        vm: emulated (kvm does not work); a container would be faster, but containers need root; run the command as root
        vm: step reboot restarts the machine (build.pkr.hcl:7: expect_disconnect), which a container cannot do
        vm: asked for
        container: asked for
        vm: instead of the container that was asked for: step reboot restarts the machine (build.pkr.hcl:7: expect_disconnect)
        error: a container cannot be started here: containers need root
        ");
    }
}
