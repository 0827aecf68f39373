//! Clusters of lock managers: production sessions and machines on a seeded network, judged by checkers of their own.
//!
//! A cluster of three to seven nodes, each with one lockspace and a session with every other node. The simulator
//! plays what no node decides itself: the network, the users, and the cluster manager that says who is a member
//! (`membership`). One seed draws a [`plan`] and with it the whole story; it ends in fair weather, in which everything
//! that was asked must be answered, and nothing may be left.
//!
//! What must hold, apart from the code under test ([`model`]):
//!
//! - **Exclusion.** At no moment do two live nodes hold modes of one name that exclude each other. A lock is held from
//!   the news of its grant until its user asks to give it up; while it is converted, only what both modes have in common
//!   is.
//! - **Grants.** Who waits is granted once nobody is in the way any more, and who is in the way is told.
//! - **Values.** A reader sees what was written last, unless it is flagged as not valid, and it is flagged only
//!   after a node has died.
//! - **Messages.** What one node's machine sent, the other's gets: once, in order, unchanged.
//! - **An end.** In fair weather recoveries end, sessions have nothing unacknowledged, no lock and no resource is left.

pub mod bugs;
mod cluster;
mod drive;
mod links;
mod membership;
pub mod model;
pub mod plan;
mod run;
mod situations;
mod users;
mod wire;

pub use bugs::Bug;
pub use run::{Report, find, run};
pub use situations::{expected, missing};
