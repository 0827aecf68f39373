//! Inputs that try to break Outlast's decoders and state machines.
//!
//! A target is a function from bytes to nothing: it panics when something that must always hold does not. Beyond that,
//! [`run`] bounds what each input may make us hold. `cargo fuzz` looks for inputs that break a target
//! (`fuzz_targets/`), `tests/replay.rs` runs those that are kept in `corpus/` once more. See `README.md`.

pub mod cephx;
pub mod connection;
pub mod decide;
pub mod dlm;
pub mod endpoint;
pub mod frames;
pub mod input;
pub mod layout;
pub mod meter;
pub mod net;
pub mod process;
pub mod setup;
pub mod transfer;
pub mod wire;

#[global_allocator]
static METER: meter::Meter = meter::Meter;

/// Something to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of its corpus and of its file in `fuzz_targets/`.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// Bytes that it may hold at a time whatever the input: the limits of what is tested, tables, a connection.
    pub held_max: usize,
    /// Bytes that it may hold for each byte of the input.
    pub held_per_byte: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The longest message that a peer with a session may announce (16 MiB each of front and middle, 64 MiB of data) is
/// allocated before it comes.
const MESSAGE_MAX: usize = 96 * MIB;

/// All of them.
pub const TARGETS: [Target; 24] = [
    target("address", wire::address, 8 * KIB, 32),
    target("banner", wire::banner, KIB, 1),
    // Most of it is what the fuzzer's peer says, again and again.
    target("cephx_client", cephx::cephx_client, MIB, 32),
    target("cephx_none", cephx::cephx_none, KIB, 8),
    target("cephx_server", cephx::cephx_server, MIB, 32),
    // What a message expands to is bounded by the limits of a peer with a session; the answers wait in addition.
    target("connection_client", connection::connection_client, MESSAGE_MAX + 16 * MIB, 64),
    target("connection_frames", connection::connection_frames, MESSAGE_MAX + 32 * MIB, 64),
    target("connection_server", connection::connection_server, MESSAGE_MAX + 16 * MIB, 64),
    target("control", wire::control, 4 * KIB, 16),
    target("decide", decide::decide, MIB, 2048),
    target("decompress", frames::decompress, MIB, 16),
    target("dlm_frame", dlm::dlm_frame, 16 * KIB, 128),
    // Its tables grow with what the input asks for, up to their limits; what it answers waits until it is looked at.
    target("dlm_machine", dlm::dlm_machine, 4 * MIB, 1024),
    // Six connections, each with its buffers, and what is kept for the peer.
    target("dlm_session", dlm::dlm_session, 8 * MIB, 512),
    target("endpoint", endpoint::endpoint, 16 * MIB, 4096),
    target("frames", frames::frames, 2 * MIB, 64),
    target("header", wire::header, KIB, 1),
    target("key", cephx::key, 4 * KIB, 8),
    target("keyring", cephx::keyring, 4 * KIB, 256),
    target("net_address", net::net_address, 4 * KIB, 16),
    target("path", transfer::path, 4 * KIB, 64),
    target("round_trip", frames::round_trip, 16 * MIB, 1024),
    target("sealed", frames::sealed, 8 * MIB, 64),
    target("transfer", transfer::transfer, 8 * KIB, 64),
];

const fn target(name: &'static str, run: fn(&[u8]), held_max: usize, held_per_byte: usize) -> Target {
    Target { name, run, held_max, held_per_byte }
}

/// Runs an input through the target of this name.
///
/// # Panics
/// When there is no such target, when something is not as it must be, and when too much was held.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let held = meter::peak_of(|| (target.run)(data));
    let allowed = target.held_max + target.held_per_byte * data.len();
    assert!(
        held <= allowed,
        "{name} held {held} bytes for an input of {}; allowed are {allowed}",
        data.len()
    );
}
