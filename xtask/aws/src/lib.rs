//! The EC2 provider.
//!
//! The only crate that knows the AWS SDK. It implements `xtask`'s `Cloud` and `Machine`; what a pipeline does stands there, not
//! here. Nothing here prints, and nothing spawns but through `xtask::process`.

pub mod amazon_ebs_source;

mod causes;
pub mod journal;
pub mod aws_error;
pub mod clients;
pub mod drive;
pub mod wait;
pub mod settings;

pub mod base;
pub mod record;
pub mod image;
pub mod documents;
pub mod protection;
pub mod orphans;
pub mod copy;
pub mod order;
mod request;
mod dry;
mod limits;
mod ours;
pub mod parameters;
pub mod uses;
pub mod run_command;
pub mod ssm;
pub mod instance;
pub mod preflight;
pub mod cloud;
pub mod policy;
pub mod provider;
