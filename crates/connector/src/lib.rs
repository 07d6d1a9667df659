//! Fairlead: one participant's connector, its command line, and the authority of a data space.
//!
//! Start reading at [`run`]: it opens what a participant is made of and starts its services. [`node::Node`] is what
//! they share, [`driver`] is the only code that moves a process, [`grpc`], [`http`] and [`admin`] are
//! the ways in.

pub mod access;
pub mod admin;
pub mod approval;
pub mod audit;
pub mod authority;
pub mod caller;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data;
pub mod demo;
pub mod doctor;
pub mod driver;
pub mod enforceable;
pub mod error;
pub mod fresh;
pub mod grpc;
pub mod http;
pub mod layers;
pub mod node;
pub mod peers;
pub mod policies;
pub mod recovery;
pub mod refusals;
pub mod restored;
pub mod run;
pub mod standing;
pub mod telemetry;
pub mod transport;
pub mod trust;
pub mod upkeep;
pub mod use_endpoint;
pub mod use_flight;

/// The administration socket's name in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
