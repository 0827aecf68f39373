//! What a seed stands for: who takes part, what they promise each other, and how bad it gets.

use crate::bugs::Bug;
use crate::setup::{Security, address, ceph, ours, process};
use crate::world::{Hazards, ProcessConfig, Weather};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::connection::{HANDSHAKE_TIMEOUT, OUT_BYTES_HIGH};
use outlast_msgr2::wire::FEATURE_REVISION_1;
use outlast_msgr2::{Matching, Policy, SessionConfig};
use outlast_session::{AckPolicy, BackoffConfig, Lifetime, LivenessConfig, OutboxLimits, ThrottleLimits};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

/// Who talks to whom, and with which promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Lossless clients and a stateful server, known by name and cookies.
    OwnClients,
    /// The same, known by address.
    CephClients,
    /// Equals that dial each other, known by name.
    OwnPeers,
    /// Equals that dial each other, known by address.
    CephPeers,
    /// Lossy clients of a server that knows none of them again.
    LossyClients,
    /// Lossy clients of a server that knows them again.
    LossyRegistered,
    /// Lossless clients that learn that their server is lossy.
    LossyServer,
}

impl Shape {
    const ALL: [Self; 7] = [
        Self::OwnClients,
        Self::CephClients,
        Self::OwnPeers,
        Self::CephPeers,
        Self::LossyClients,
        Self::LossyRegistered,
        Self::LossyServer,
    ];

    /// Whether messages may be lost with their connection.
    #[must_use]
    pub const fn is_lossy(self) -> bool {
        match self {
            Self::LossyClients | Self::LossyRegistered | Self::LossyServer => true,
            Self::OwnClients | Self::CephClients | Self::OwnPeers | Self::CephPeers => false,
        }
    }

    /// Whether both ends dial.
    #[must_use]
    pub const fn is_peers(self) -> bool {
        match self {
            Self::OwnPeers | Self::CephPeers => true,
            Self::OwnClients
            | Self::CephClients
            | Self::LossyClients
            | Self::LossyRegistered
            | Self::LossyServer => false,
        }
    }

    /// Whether addresses do not matter.
    #[must_use]
    pub const fn is_by_identity(self) -> bool {
        match self {
            Self::OwnClients | Self::OwnPeers => true,
            Self::CephClients
            | Self::CephPeers
            | Self::LossyClients
            | Self::LossyRegistered
            | Self::LossyServer => false,
        }
    }
}

/// What may happen, and how likely it is beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Act {
    Send,
    Burst,
    Call,
    Revoke,
    SlowDown,
    Close,
    Abort,
    Open,
    Cut,
    CutSoon,
    Silence,
    Hold,
    LetGo,
    Hazards,
    Unreachable,
    Blackhole,
    Restart,
    Jump,
    Roam,
    Relay,
    Busy,
    Calm,
}

/// Everything about a run that is drawn before it begins.
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// Who and what.
    pub shape: Shape,
    /// How they prove themselves and what they hide.
    pub security: Security,
    /// The processes.
    pub processes: Vec<ProcessConfig>,
    /// Who opens sessions to whom.
    pub lines: Vec<(usize, usize)>,
    /// What they are opened with.
    pub opened: SessionConfig,
    /// What the accepting end makes of them.
    pub accepted: SessionConfig,
    /// The network, before anything goes wrong.
    pub weather: Weather,
    /// What may befall new links while it is bad.
    pub hazards: Hazards,
    /// Frames are compressed.
    pub compressed: bool,
    /// Resumptions say less than what was received, so that more is sent again than need be.
    pub sloppy: bool,
    /// No way from the first to the second, in fair weather too; the other way is open.
    pub one_way: Option<(usize, usize)>,
    /// Processes that may die and come back.
    pub mortal: Vec<usize>,
    /// Whether sources of connections may change.
    pub may_roam: bool,
    /// Things that happen before the weather turns fair.
    pub acts: u32,
    /// The mean time between two of them.
    pub pause: Duration,
    /// What may happen, with weights.
    pub menu: Vec<(Act, u32)>,
    /// The largest payload, in bytes.
    pub payload_max: usize,
    /// All payloads together, in bytes.
    pub payload_sum_max: usize,
    /// World time after which fair weather must have mended everything.
    pub bound: Duration,
    /// The choices of the run itself.
    pub rng: StdRng,
}

fn one_in(rng: &mut StdRng, n: u32) -> bool {
    rng.random_range(0..n) == 0
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

impl Scenario {
    /// Draws a run. With a bug planted, what hides it is left out.
    #[must_use]
    pub fn draw(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_5ca1_ab1e_0001);
        let on_wire = bug.is_some_and(Bug::is_on_the_wire);
        let shape = pick(&mut rng, &Shape::ALL);
        let mut security = pick(&mut rng, &[Security::None, Security::Crc, Security::Secure]);
        if on_wire && security == Security::Secure {
            security = Security::Crc;
        }
        if shape == Shape::OwnPeers && security == Security::None {
            // Without authentication there are no names to know an equal by.
            security = Security::Crc;
        }
        let (mut opened, mut accepted) = configs(shape, &mut rng);
        let quick = rng.random::<bool>();
        if quick {
            let first = Duration::from_millis(5);
            let max = Duration::from_millis(pick(&mut rng, &[100, 500, 2000]));
            opened.backoff = BackoffConfig { first, max, ..BackoffConfig::default() };
            accepted.backoff = opened.backoff;
        }
        let handshake_timeout = Duration::from_secs(pick(&mut rng, &[1, 3, 10]));
        let liveness = pick(&mut rng, &[(500, 1000), (1000, 5000), (5000, 15_000)]);
        let liveness = LivenessConfig {
            interval: Duration::from_millis(liveness.0),
            grace: Duration::from_millis(liveness.1),
        };
        let keep_nonce = rng.random();
        let lifetime = Duration::from_secs(pick(&mut rng, &[2, 20, 60]));
        // Whoever is not told that its peer is gone for good must give up by itself.
        accepted.lifetime = Lifetime::For(lifetime);
        // Nobody forgets anything on purpose: then nothing may be lost at all, and no expiry hides that it is stuck.
        let one_way_wanted = shape == Shape::CephPeers && bug.is_none() && one_in(&mut rng, 3);
        let durable = one_way_wanted || one_in(&mut rng, 3);
        if durable {
            accepted.lifetime = Lifetime::Forever;
        }
        let forever = durable || (shape.is_by_identity() && rng.random());
        opened.lifetime = if forever { Lifetime::Forever } else { Lifetime::For(lifetime) };
        small_queues(&mut opened, &mut rng);
        accepted.outbox = opened.outbox;
        accepted.inbound = opened.inbound;
        accepted.ack = opened.ack;

        let revision_0 = !on_wire && one_in(&mut rng, 8);
        let compression = !on_wire && one_in(&mut rng, 5);
        let algorithm = pick(&mut rng, &Algorithm::ALL);
        let spare = one_in(&mut rng, 3).then(|| u64::MAX - rng.random_range(250..700));
        let mut processes = Vec::new();
        let mut lines = Vec::new();
        let mut add = |name: &str, listens: bool, accepted: &SessionConfig, rng: &mut StdRng| {
            let index = processes.len();
            let at = listens.then(|| address(u8::try_from(index).unwrap_or(0) + 1));
            let mut config = process(name, at, accepted.clone(), security);
            config.keep_nonce = keep_nonce;
            config.endpoint.nonce = u32::try_from(index).unwrap_or(0) + 1;
            let connection = Arc::make_mut(&mut config.endpoint.connection);
            connection.handshake_timeout = pick(rng, &[handshake_timeout, HANDSHAKE_TIMEOUT]);
            connection.liveness = liveness;
            if revision_0 {
                connection.msgr2_supported &= !FEATURE_REVISION_1;
                connection.allow_secure_revision_0 = true;
            } else if let Some(spare) = spare {
                connection.nonces_spare = spare;
            }
            if compression {
                connection.compression.algorithms = vec![algorithm];
                connection.compression.in_secure_mode = true;
                connection.compression.threshold_bytes = 64;
            }
            processes.push(config);
            index
        };
        if shape.is_peers() {
            let count = pick(&mut rng, &[2, 2, 2, 3]);
            for index in 0..count {
                add(["osd.1", "osd.2", "osd.3"][index], true, &accepted, &mut rng);
            }
            for from in 0..count {
                lines.extend((0..count).filter(|to| *to != from).map(|to| (from, to)));
            }
            // Sometimes only one of them ever has the wish.
            if one_in(&mut rng, 3) {
                lines.retain(|(from, to)| from < to);
            }
        } else {
            let server = add("mon.1", true, &accepted, &mut rng);
            let count = pick(&mut rng, &[1, 1, 2, 3]);
            for name in &["client.a", "client.b", "client.c"][..count] {
                let client = add(name, false, &accepted, &mut rng);
                lines.push((client, server));
            }
        }

        let pieces = rng.random_range(0..40_u32);
        let small = pieces < 6;
        let weather = Weather {
            delay: pick(&mut rng, &[(50, 150), (50, 150), (1000, 3000), (20_000, 60_000)]).into_delay(),
            piece_bytes_max: match pieces {
                0 => 1,
                1..=5 => 40,
                6..=14 => 600,
                _ => 16 << 10,
            },
            window_bytes: if one_in(&mut rng, 4) { rng.random_range(200..4000) } else { 64 << 10 },
        };
        let payload_max = if small { 300 } else { pick(&mut rng, &[64, 4096, 40_000, 200 << 10]) };
        let payload_sum_max = if small { 10_000 } else { 1500 << 10 };
        let hazards = Hazards {
            cut_percent: pick(&mut rng, &[0, 10, 50]),
            cut_bytes_max: pick(&mut rng, &[600, 3000, 60_000]),
            silent_percent: pick(&mut rng, &[0, 0, 10]),
            late_per_myriad: if small { pick(&mut rng, &[0, 3]) } else { pick(&mut rng, &[0, 0, 100, 1500]) },
            late_max: Duration::from_millis(pick(&mut rng, &[20, 500, 4000])),
        };
        let acts = if small { rng.random_range(5..20) } else { rng.random_range(10..200) };
        let pause = Duration::from_micros(pick(&mut rng, &[200, 2000, 30_000, 700_000]));
        let reach = opened.backoff.max + HANDSHAKE_TIMEOUT + liveness.interval + liveness.grace;
        let bound = lifetime + (reach + hazards.late_max) * 4 + Duration::from_secs(10);
        let mut menu = menu(shape, &mut rng, bug);
        if durable {
            menu.retain(|(act, _)| !matches!(act, Act::Close | Act::Abort));
        }
        // Where nobody gives up, only those may die whose place the next life can take.
        let found_again = shape.is_by_identity() || keep_nonce;
        let mortal = match (durable, shape.is_peers()) {
            (false, _) => (0..processes.len()).collect(),
            (true, true) if found_again => (0..processes.len()).collect(),
            (true, false) if found_again => vec![0],
            (true, _) => Vec::new(),
        };
        let readable = security != Security::Secure && !revision_0 && !compression;
        let sloppy = bug.is_none() && readable && one_in(&mut rng, 4);
        let one_way = (one_way_wanted && lines.contains(&(0, 1)) && lines.contains(&(1, 0)))
            .then(|| if rng.random() { (0, 1) } else { (1, 0) });
        Self {
            seed,
            shape,
            security,
            processes,
            lines,
            opened,
            accepted,
            weather,
            hazards,
            compressed: compression,
            sloppy,
            one_way,
            mortal,
            may_roam: rng.random(),
            acts,
            pause,
            menu,
            payload_max,
            payload_sum_max,
            bound,
            rng,
        }
    }

    /// What a connection may hold unwritten: the high mark, one message beyond it, and small frames.
    #[must_use]
    pub const fn unwritten_max(&self) -> usize {
        OUT_BYTES_HIGH + self.payload_max * 9 / 8 + (16 << 10)
    }

    /// What happens next.
    pub fn next_act(&mut self) -> Act {
        let sum: u32 = self.menu.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.random_range(0..sum);
        for (act, weight) in &self.menu {
            if at < *weight {
                return *act;
            }
            at -= weight;
        }
        Act::Calm
    }

    /// One line about it.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "seed {}: {:?}, {:?}, {} processes, {:?} opened, {:?} accepted, lifetime {:?}, {} acts every {:?}, \
             pieces of {} in a window of {}, up to {} bytes",
            self.seed,
            self.shape,
            self.security,
            self.processes.len(),
            self.opened.policy,
            self.accepted.policy,
            self.opened.lifetime,
            self.acts,
            self.pause,
            self.weather.piece_bytes_max,
            self.weather.window_bytes,
            self.payload_max,
        )
    }
}

trait IntoDelay {
    fn into_delay(self) -> (Duration, Duration);
}

impl IntoDelay for (u64, u64) {
    fn into_delay(self) -> (Duration, Duration) {
        (Duration::from_micros(self.0), Duration::from_micros(self.1))
    }
}

fn configs(shape: Shape, rng: &mut StdRng) -> (SessionConfig, SessionConfig) {
    match shape {
        Shape::OwnClients => (ours(Policy::LOSSLESS_CLIENT), ours(Policy::STATEFUL_SERVER)),
        Shape::CephClients => (ceph(Policy::LOSSLESS_CLIENT), ceph(Policy::STATEFUL_SERVER)),
        Shape::OwnPeers | Shape::CephPeers => {
            let policy = pick(rng, &[Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER_REUSE]);
            let matching = if shape == Shape::OwnPeers { Matching::Identity } else { Matching::Address };
            let config = SessionConfig { matching, ..ceph(policy) };
            (config.clone(), config)
        }
        Shape::LossyClients => (ceph(Policy::LOSSY_CLIENT), ceph(Policy::STATELESS_SERVER)),
        Shape::LossyRegistered => (ceph(Policy::LOSSY_CLIENT), ceph(Policy::STATELESS_REGISTERED_SERVER)),
        Shape::LossyServer => (ceph(Policy::LOSSLESS_CLIENT), ceph(Policy::STATELESS_SERVER)),
    }
}

fn small_queues(config: &mut SessionConfig, rng: &mut StdRng) {
    if one_in(rng, 3) {
        config.outbox =
            OutboxLimits { messages_max: rng.random_range(1..40), bytes_max: rng.random_range(500..60_000) };
    }
    if one_in(rng, 3) {
        config.inbound = ThrottleLimits {
            messages_max: rng.random_range(1..10),
            bytes_max: rng.random_range(100..30_000),
        };
    }
    if one_in(rng, 3) {
        config.ack = AckPolicy {
            messages_max: rng.random_range(1..10),
            bytes_max: rng.random_range(1..100_000),
            delay_max: Duration::from_millis(pick(rng, &[0, 1, 40])),
        };
    }
}

/// What may happen: not everything in every run, so that some runs are about one thing.
fn menu(shape: Shape, rng: &mut StdRng, bug: Option<Bug>) -> Vec<(Act, u32)> {
    let mut menu = vec![(Act::Send, 20), (Act::Burst, 10), (Act::Call, 5), (Act::Calm, 5), (Act::Open, 6)];
    let mut sometimes = |act: Act, weight: u32, one_in_runs: u32| {
        let drawn = one_in(rng, one_in_runs);
        if drawn {
            menu.push((act, weight));
        }
    };
    sometimes(Act::Cut, 10, 2);
    sometimes(Act::CutSoon, 8, 2);
    sometimes(Act::Silence, 3, 3);
    sometimes(Act::Hazards, 4, 2);
    sometimes(Act::Hold, 4, 3);
    sometimes(Act::LetGo, 4, 3);
    sometimes(Act::Unreachable, 5, 3);
    sometimes(Act::Blackhole, 4, 4);
    sometimes(Act::Restart, 3, 3);
    sometimes(Act::Jump, 3, 3);
    sometimes(Act::SlowDown, 8, 3);
    sometimes(Act::Close, 3, 3);
    sometimes(Act::Abort, 2, 4);
    sometimes(Act::Busy, 3, 5);
    if bug.is_none() {
        sometimes(Act::Revoke, 10, 3);
    }
    if shape.is_by_identity() || !shape.is_peers() {
        sometimes(Act::Roam, 3, 3);
    }
    if shape.is_by_identity() {
        sometimes(Act::Relay, 3, 3);
    }
    menu
}
