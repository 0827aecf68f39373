//! What numbering, keeping, accepting and acknowledging a small message costs, apart from its bytes:
//! `cargo run --release -p outlast-session --example hot_path`.

use std::hint::black_box;
use std::sync::Arc;

use outlast_session::{
    AckPolicy, Delivery, GapPolicy, Inbox, Instant, Outbox, OutboxLimits, Payload, Priority,
};

const MESSAGES: u64 = 20_000_000;
/// How many are written before the peer's acknowledgement comes.
const IN_FLIGHT: u64 = 256;
const RUNS: usize = 5;

/// As heavy to move and clone as a message of three segments of which one is shared memory.
#[derive(Clone)]
struct Small {
    data: Arc<[u8]>,
    _header: [u64; 10],
}

impl Payload for Small {
    fn cost(&self) -> usize {
        self.data.len()
    }

    fn priority(&self) -> Priority {
        Priority(127)
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock; the crate itself has none")]
fn main() {
    let message = Small { data: Arc::from([7u8; 64]), _header: [0; 10] };
    for _ in 0..RUNS {
        let mut outbox = Outbox::new(Delivery::Lossless, OutboxLimits::default());
        let mut inbox = Inbox::new(GapPolicy::Refuse, AckPolicy::default());
        let (mut sending, mut accepting) = (0, 0);
        let mut acks = 0u64;
        for _ in 0..MESSAGES / IN_FLIGHT {
            let start = std::time::Instant::now();
            for _ in 0..IN_FLIGHT {
                if outbox.push(message.clone()).is_err() {
                    panic!("acknowledged in time");
                }
            }
            while let Some(pulled) = outbox.pull() {
                black_box(&pulled);
            }
            sending += start.elapsed().as_nanos();

            let start = std::time::Instant::now();
            for ordinal in outbox.acked_count()..outbox.sent_count() {
                let verdict = inbox.accept(black_box(ordinal), 64, Instant::ZERO);
                assert!(black_box(verdict).is_ok());
                acks += u64::from(inbox.ack_due(Instant::ZERO));
            }
            accepting += start.elapsed().as_nanos();
            inbox.note_ack_sent();

            let start = std::time::Instant::now();
            let freed = outbox.handle_ack(inbox.received_count());
            assert_eq!(freed, Ok(IN_FLIGHT as usize));
            sending += start.elapsed().as_nanos();
        }
        // The user's copy and the one on its way to the wire are made and dropped whatever carries them.
        let start = std::time::Instant::now();
        for _ in 0..MESSAGES {
            black_box((black_box(&message).clone(), black_box(&message).clone()));
        }
        let copies = start.elapsed().as_nanos();
        println!(
            "push, pull and acknowledge {:.1} ns (the two copies alone {:.1} ns), accept {:.1} ns a message ({acks} separate acknowledgements)",
            sending as f64 / MESSAGES as f64,
            copies as f64 / MESSAGES as f64,
            accepting as f64 / MESSAGES as f64
        );
    }
}
