//! Chooses the builder on this machine: a virtual machine or a container. The choice is a pure function of the settings, the host's
//! capabilities and the recipe.

use fs_err as fs;
use serde::{Serialize, de::DeserializeOwned};

use super::super::{Builder, BuilderKind, EngineKind};
use super::Local;
use super::container::probe::{self, Obstacle};
use super::qemu::{self, Acceleration, ProbeResult};
use crate::error::{Exit, Result, plain};
use crate::recipe::{Action, Recipe};

/// The inputs of the choice.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// The requested builder, or `None` for the fastest that works.
    pub(super) requested: Option<BuilderKind>,
    /// The accelerator of virtual machines, and the reason for it.
    pub(super) acceleration: (Acceleration, &'a str),
    /// Why no container can be started on this host; `None` if one can.
    pub(super) obstacle: Option<&'a Obstacle>,
    /// Why the build requires a virtual machine; `None` if it does not.
    pub(super) needs_vm: Option<&'a str>,
}

/// Why a build requires a virtual machine: Packer, or the first step that restarts the machine, with file and line.
pub(super) fn needs_vm(recipe: Option<&Recipe>, engine: EngineKind) -> Option<String> {
    if engine == EngineKind::Packer {
        return Some("Packer starts its own virtual machine".to_owned());
    }
    let restarts = |action: &Action| matches!(action, Action::Shell(shell) if shell.expect_disconnect);
    let step = recipe?.steps.iter().find(|step| restarts(&step.action))?;
    let place = format!("{}:{}", step.place.file.display(), step.place.line);
    Some(format!("step {} restarts the machine ({place}: expect_disconnect)", step.name))
}

pub(super) fn choose(facts: &Facts<'_>) -> Result<Builder> {
    let builder = |kind, why: String| Ok(Builder { kind, why });
    let (acceleration, why) = facts.acceleration;
    let emulated = acceleration == Acceleration::Tcg;
    match (facts.requested, facts.needs_vm, facts.obstacle) {
        (Some(BuilderKind::Container), None, Some(Obstacle { what, remedy })) => {
            Err(Exit::Precondition.error(format_args!("a container cannot be started on this host: {what}"), remedy))
        }
        (Some(BuilderKind::Container), None, None) => builder(BuilderKind::Container, "requested".to_owned()),
        (Some(BuilderKind::Container), Some(reason), _) => {
            builder(BuilderKind::Vm, format!("instead of the requested container: {reason}"))
        }
        (Some(_), ..) => builder(BuilderKind::Vm, "requested".to_owned()),
        (None, ..) if !emulated => {
            builder(BuilderKind::Vm, format!("accelerated by {}", acceleration.name().to_uppercase()))
        }
        (None, Some(reason), _) => builder(BuilderKind::Vm, format!("{reason}, which a container cannot do")),
        (None, None, None) => {
            builder(BuilderKind::Container, format!("virtual machines are emulated on this host ({why})"))
        }
        (None, None, Some(Obstacle { what, remedy })) => {
            builder(BuilderKind::Vm, format!("emulated ({why}); a container would be faster, but {what}; {remedy}"))
        }
    }
}

impl Local {
    /// The accelerator of virtual machines. The result of the probe is cached in the state directory.
    pub fn acceleration(&self) -> Result<ProbeResult> {
        let requested = self.settings.acceleration;
        self.cached("acceleration.json", |known| qemu::probe(requested, known), |_| requested.is_none())
    }

    /// Whether containers can be started on this host. The result of the probe is cached in the state directory.
    pub fn containers(&self) -> Result<probe::ProbeResult> {
        self.cached("containers.json", probe::probe, |result| !result.host.is_empty())
    }

    /// Calls `find` with the content of `file` in the state directory, and stores its result there if `cacheable` returns true.
    fn cached<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        file: &str,
        find: impl FnOnce(Option<&T>) -> Result<T>,
        cacheable: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let path = self.state.path(file);
        let known: Option<T> = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
        let found = find(known.as_ref())?;
        if cacheable(&found) && known.as_ref() != Some(&found) {
            fs::write(path, serde_json::to_vec_pretty(&found).unwrap_or_default())?;
        }
        Ok(found)
    }

    /// The builder on this machine. `needs_vm` is why the build requires a virtual machine; `None` if it does not.
    pub fn builder_here(&self, needs_vm: Option<&str>) -> Result<Builder> {
        let requested = self.settings.builder;
        let acceleration = match self.acceleration() {
            // QEMU is missing. That is no error for a plan; a build fails later, where it starts QEMU.
            Err(error) if error.exit() == Exit::Precondition && requested != Some(BuilderKind::Container) => {
                return Ok(Builder { kind: BuilderKind::Vm, why: plain(&error) });
            }
            acceleration => acceleration?,
        };
        // The probe for containers is skipped where a virtual machine is as fast or requested.
        let useful = requested.unwrap_or(BuilderKind::Container) == BuilderKind::Container
            && (requested.is_some() || acceleration.acceleration == Acceleration::Tcg);
        let obstacle = if useful { self.containers()?.obstacle } else { None };
        choose(&Facts {
            requested,
            acceleration: (acceleration.acceleration, &acceleration.why),
            obstacle: obstacle.as_ref(),
            needs_vm,
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
        let show = |requested, acceleration, obstacle: Option<&Obstacle>, needs_vm: Option<&str>| {
            let facts = Facts { requested, acceleration: (acceleration, "kvm does not work"), obstacle, needs_vm };
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
        vm: accelerated by KVM
        container: virtual machines are emulated on this host (kvm does not work)
        vm: emulated (kvm does not work); a container would be faster, but containers need root; run the command as root
        vm: step reboot restarts the machine (build.pkr.hcl:7: expect_disconnect), which a container cannot do
        vm: requested
        container: requested
        vm: instead of the requested container: step reboot restarts the machine (build.pkr.hcl:7: expect_disconnect)
        error: a container cannot be started on this host: containers need root
        ");
    }
}
