//! The EC2 provider.
//!
//! The only crate that depends on the AWS SDK. It implements `Cloud` and `Machine` of `xtask`, which contains the pipelines. This crate
//! prints nothing, and starts processes only through `xtask::process`.

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
