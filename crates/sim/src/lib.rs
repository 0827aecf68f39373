//! A seeded network for Outlast's production types, with checkers apart from them.
//!
//! One number reproduces a run. [`world`] carries the bytes, [`link`] is what can go wrong with them, [`run`] draws a
//! whole story from a seed. [`watch`] writes down what the applications saw ([`history`]), and [`checker`] judges
//! that, knowing nothing of the code under test. [`bugs`] are put in on purpose, to see that they are found;
//! [`situations`] are counted, since what was never met was never tried.
//!
//! That is msgr2. [`dlm`] has clusters of lock managers in the same manner.

pub mod bugs;
pub mod checker;
pub mod dlm;
pub mod history;
pub mod link;
pub mod run;
pub mod scenario;
pub mod setup;
pub mod situations;
pub mod watch;
pub mod world;
