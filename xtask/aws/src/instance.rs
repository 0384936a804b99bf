//! A running EC2 instance with its key pair, security group and connection. Dropping it removes all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{InstanceStateName, Reservation, SummaryStatus};
use aws_smithy_types::base64;
use xtask::cloud::{Kind as Orphan, Machine};
use xtask::error::{Error, Exit, Result};
use xtask::ids::Region;
use xtask::process::{Cmd, Ended, tail};
use xtask::remote::Remote;
use xtask::signals;
use xtask::ssh::Target;
use xtask::state::Run;

use crate::aws_error::{AwsError, Called as _};
use crate::drive::Driver;
use crate::order::Order;
use crate::orphans;
use crate::ours::Ours;
use crate::run_command::RunCommand;
use crate::settings::{Settings, Via};
use crate::wait::{Poll, retried, until};

mod launch;

/// What starting and terminating an instance requires.
#[derive(Debug)]
pub struct Host {
    /// Runs the futures of calls.
    pub driver: Arc<Driver>,
    /// The instance's region.
    pub region: Region,
    /// EC2 client of the region.
    pub ec2: Client,
    /// Systems Manager client of the region.
    pub ssm: aws_sdk_ssm::Client,
    /// Settings of the provider.
    pub settings: Settings,
    /// The run the instance belongs to.
    pub run: Arc<Run>,
}

/// An instance, and the connection to it after [`Ec2Machine::enter`].
#[derive(Debug)]
pub struct Ec2Machine {
    host: Host,
    purpose: String,
    id: String,
    key: Option<String>,
    group: Option<String>,
    kept: bool,
    /// True once RunInstances has been sent.
    ordered: bool,
    connection: Option<Box<dyn Remote>>,
    target: Target,
    boot_id: String,
    /// When RunInstances returned, or a restart was requested.
    began: Option<Instant>,
    boot_seconds: Option<f64>,
}

impl Ec2Machine {
    /// Starts an instance and waits until it runs and has an address.
    pub fn begin(host: Host, order: &Order, on_progress: &dyn Fn(&str)) -> Result<Self> {
        let dir = host.run.path(&order.purpose);
        fs_err::create_dir_all(&dir)?;
        let key = dir.join("id_ed25519");
        Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", host.run.id(), "-f"]).arg(&key).read()?;
        let target = Target {
            host: String::new(),
            port: order.port,
            user: order.user.clone(),
            key,
            known_hosts: dir.join("known_hosts"),
            sockets: host.run.sockets().to_owned(),
        };
        // From here on, dropping the machine removes the resources that its fields name.
        let mut machine = Self {
            host,
            purpose: order.purpose.clone(),
            id: String::new(),
            key: None,
            group: None,
            kept: false,
            ordered: false,
            connection: None,
            target,
            boot_id: String::new(),
            began: None,
            boot_seconds: None,
        };
        let by_ssh = machine.host.settings.via == Via::Ssh;
        if by_ssh {
            machine.import_key(order)?;
            machine.ours().key_pair(machine.key.as_deref().unwrap_or_default())?;
        }
        let subnets = machine.subnets(order)?;
        let groups = match &order.groups {
            // No inbound connection is needed, so the VPC's default group is sufficient.
            named if !named.is_empty() || !by_ssh => named.clone(),
            _ => vec![machine.make_group(order, &subnets)?],
        };
        if let Some(group) = &machine.group {
            machine.ours().group(group)?;
        }
        machine.run(order, &subnets, &groups, on_progress)?;
        machine.ours().instance(&machine.id)?;
        machine.find_address(order, on_progress)?;
        Ok(machine)
    }

    fn ours(&self) -> Ours<'_> {
        Ours { driver: &self.host.driver, ec2: &self.host.ec2, region: &self.host.region }
    }

    /// Id of the instance.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Connects to the instance, and waits for cloud-init.
    pub fn enter(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        let remote = self.connect(on_progress).map_err(|error| match error.exit() {
            Exit::Interrupted => error,
            _ => error.context(format!("the console of {} ends with\n{}", self.id, tail(&self.console(), 15))),
        })?;
        self.boot_seconds = self.began.map(|began| began.elapsed().as_secs_f64());
        on_progress("waiting for cloud-init");
        let patience = self.host.settings.boot_timeout;
        if remote.stream("cloud-init status --wait", Some(patience), &mut |_, _| {})? == Some(Ended::TimedOut) {
            let message = format!("cloud-init on {} did not finish within {} s", self.id, patience.as_secs());
            return Err(Exit::Failed.error(message, "increase `boot_timeout_secs` in [aws] of ami.toml"));
        }
        self.boot_id = remote.read("cat /proc/sys/kernel/random/boot_id")?;
        self.connection = Some(remote);
        Ok(())
    }

    fn connect(&self, on_progress: &dyn Fn(&str)) -> Result<Box<dyn Remote>> {
        let waited = |so_far: Duration| on_progress(&format!("{} is booting, {} s", self.id, so_far.as_secs()));
        let Host { driver, ssm, region, settings, .. } = &self.host;
        match settings.via {
            Via::Ssh => Ok(Box::new(self.target.connect(settings.boot_timeout, || Ok(()), waited)?)),
            Via::Ssm => {
                let times = (settings.patience.command, settings.boot_timeout);
                let remote = RunCommand::new(driver, ssm.clone(), (&self.id, region), &self.target.user, times);
                Ok(Box::new(remote.connect(&waited)?))
            }
        }
    }

    /// True if EC2's system status check is ok and its instance status check is impaired: the kernel does not boot, or the network is
    /// misconfigured (EC2 user guide, "Types of status checks").
    pub fn is_guest_impaired(&self) -> bool {
        let call = self.host.ec2.describe_instance_status().instance_ids(&self.id);
        let Ok(Ok(answer)) = self.host.driver.wait(call.send()) else { return false };
        answer.instance_statuses().first().is_some_and(|status| {
            let guest = status.instance_status().and_then(|s| s.status());
            let host = status.system_status().and_then(|s| s.status());
            host == Some(&SummaryStatus::Ok) && guest == Some(&SummaryStatus::Impaired)
        })
    }

    /// Stops the instance, so that its disk is consistent.
    pub fn stop(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        if let Some(remote) = self.connection.take() {
            remote.read("sync")?;
        }
        let call = self.host.ec2.stop_instances().instance_ids(&self.id);
        self.host.driver.finish(call.send()).called("ec2:StopInstances")?;
        self.reach(&InstanceStateName::Stopped, on_progress)
    }

    fn reach(&self, expected: &InstanceStateName, on_progress: &dyn Fn(&str)) -> Result<()> {
        let call = self.host.ec2.describe_instances().instance_ids(&self.id);
        let result = self.host.driver.wait(until(self.host.settings.patience.instance, on_progress, async || {
            let answer = call.clone().send().await.called("ec2:DescribeInstances")?;
            let state = answer
                .reservations()
                .iter()
                .flat_map(Reservation::instances)
                .next()
                .and_then(|i| i.state()?.name().cloned());
            Ok(match state {
                None => Poll::Missing,
                Some(state) if state == *expected => Poll::Ready(()),
                Some(InstanceStateName::Terminated) => Poll::Final("terminated".to_owned()),
                Some(state) => Poll::Pending(state.as_str().to_owned()),
            })
        }))?;
        result.map_err(|wait_error| wait_error.into_error(&format!("instance {}", self.id)))
    }

    /// Terminates the instance, and deletes key pair and security group. All removals are tried; the first error is returned.
    pub fn end(mut self) -> Result<()> {
        let result = self.clean_up();
        self.kept = true;
        result
    }

    fn clean_up(&mut self) -> Result<()> {
        self.connection = None;
        let driver = Arc::clone(&self.host.driver);
        let mut first: Option<Error> = None;
        let ec2 = &self.host.ec2;
        let mut note = |kind, id: &str, result: std::result::Result<(), AwsError>| {
            if let Err(aws_error) = driver.finish(orphans::unless_missing(ec2, kind, id, result)) {
                first = first.take().or(Some(aws_error.into()));
            }
        };
        if self.id.is_empty() && self.ordered {
            // The response of RunInstances may be lost although the instance exists.
            self.id = driver.finish(self.lost()).unwrap_or_default();
        }
        if !self.id.is_empty() {
            let call = ec2.terminate_instances().instance_ids(&self.id);
            let done = driver.finish(retried(|| call.clone().send(), "ec2:TerminateInstances")).map(drop);
            note(Orphan::Machine, &self.id, done);
        }
        if let Some(key) = self.key.take() {
            let call = ec2.delete_key_pair().key_name(&key);
            let done = driver.finish(retried(|| call.clone().send(), "ec2:DeleteKeyPair")).map(drop);
            note(Orphan::KeyPair, &key, done);
        }
        if let Some(group) = self.group.take() {
            note(Orphan::SecurityGroup, &group, driver.finish(orphans::delete_group(ec2, &group)));
        }
        first.map_or(Ok(()), Err)
    }
}

impl Drop for Ec2Machine {
    fn drop(&mut self) {
        if !self.kept {
            // Drop cannot return errors. `gc` finds remaining resources by the run's tag, and the instance powers itself off.
            let _ = self.clean_up();
        }
    }
}

impl Machine for Ec2Machine {
    #[expect(clippy::expect_used, reason = "start() and reboot() return a machine only when the connection is open")]
    fn remote(&self) -> &dyn Remote {
        self.connection.as_deref().expect("a machine that was returned is connected")
    }

    fn reboot(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        self.began = Some(Instant::now());
        let _ = self.remote().output("sudo systemctl reboot", b"");
        self.reboot_finished(on_progress)
    }

    fn reboot_finished(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        let before = self.boot_id.clone();
        let deadline = Instant::now() + self.host.settings.boot_timeout;
        loop {
            // sshd of the previous boot may still respond, so only a new boot id counts.
            self.connection = None;
            signals::pause(Duration::from_secs(2))?;
            match self.enter(on_progress) {
                Ok(()) if self.boot_id != before => return Ok(()),
                Ok(()) => {}
                Err(error) if error.exit() == Exit::Interrupted || Instant::now() > deadline => return Err(error),
                // The previous boot accepted the connection, and then shut down.
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return Err(Exit::Failed.error(
                    format_args!("{} did not restart in time", self.id),
                    "check its console output (`aws ec2 get-console-output`)",
                ));
            }
        }
    }

    fn console(&self) -> String {
        let call = self.host.ec2.get_console_output().instance_id(&self.id).latest(true);
        let output = self.host.driver.finish(call.send()).ok().and_then(|o| o.output().map(str::to_owned));
        let decoded = output.and_then(|text| base64::decode(text).ok());
        decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn second_try(&mut self) -> Option<String> {
        None
    }

    fn boot_seconds(&self) -> Option<f64> {
        self.boot_seconds
    }

    fn keep(&mut self) -> Result<String> {
        self.kept = true;
        Ok(self.remote().login_line())
    }
}
